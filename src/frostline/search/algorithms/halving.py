"""Successive halving over a ladder, with synchronous rungs and with promotions as soon as they are earned.

Both are pure functions of history, and decide by score alone. Optuna's own pruner decides by order of arrival.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import accumulate, repeat
from typing import TYPE_CHECKING

from frostline.errors import LadderError
from frostline.inputs.whole_numbers import MOST_CONFIGURATIONS, shown
from frostline.records import Request
from frostline.search.ladder import Ladder, integer_root

if TYPE_CHECKING:
    from frostline.search.history import History

_LARGEST_REDUCTION_FACTOR = 1000

CONFIGURATIONS = 27
"""How many a search begins with if nobody says: enough for three rungs of which each promotes a third."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bracket:
    """One run of successive halving: which configurations, and how many of them reach each rung.

    ``quotas[i]`` configurations are evaluated at rung ``first_rung + i``; the first quota is the number of
    ``numbers``.
    """

    numbers: range
    first_rung: int
    quotas: tuple[int, ...]

    def next_requests(self, history: History, *, capacity: int) -> list[Request]:
        """Return up to ``capacity`` requests of the lowest rung that is not closed."""
        requests = first_requests(history, self.numbers, rung=self.first_rung, capacity=capacity)
        if requests:
            return requests
        for rung, quota in enumerate(self.quotas[1:], start=self.first_rung):
            closing = history.rung(rung, part=self.numbers)
            if closing.num_pending > 0:
                return []
            numbers = closing.promotable(limit=quota, most=capacity)
            if numbers:
                return [Request(number, rung + 1) for number in numbers]
        return []

    def eliminated(self, history: History) -> list[int]:
        """Return those that are already beaten by as many as the next rung takes, and those that did not finish.

        Ranks only ever get worse, so there is no need to wait until the rung is closed.
        """
        found = []
        is_closed = history.rung(self.first_rung, part=self.numbers).num_ended == len(self.numbers)
        for rung, quota in enumerate(self.quotas[1:], start=self.first_rung):
            here, above = (history.rung(index, part=self.numbers) for index in (rung, rung + 1))
            found += here.beaten(limit=quota, is_closed=is_closed)
            is_closed = is_closed and here.num_promotable(limit=quota) == 0 and above.num_pending == 0
        return sorted(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class SuccessiveHalving:
    """Synchronous successive halving: when a rung's configurations have all ended, its best climb.

    Of each rung the best ``1 / reduction_factor`` climb, rounded down, at least one, among those that finished.
    Which ones does not depend on the order in which evaluations end, nor on how many workers there are. More
    ``configurations`` may be asked for later: the rungs open again, and what was eliminated stays so.
    Raises: LadderError if there are too few configurations for the rungs, or ``reduction_factor`` is below 2.
    Source: Jamieson and Talwalkar 2016, arXiv:1502.07943.
    """

    ladder: Ladder
    configurations: int
    reduction_factor: int = 3

    def __post_init__(self) -> None:
        check_climb(self.configurations, len(self.ladder.rungs), self.reduction_factor)

    @property
    def fingerprint(self) -> str:
        """A string that changes when a study made with this search cannot be continued with another."""
        return f"successive halving, reduction factor {self.reduction_factor}"

    def evaluations_per_rung(self) -> tuple[int, ...]:
        """Return how many evaluations each rung sees, unless more fail or diverge than would be eliminated."""
        return divided(self.configurations, len(self.ladder.rungs), self.reduction_factor)

    def started_per_rung(self) -> tuple[int, ...]:
        """Return how many configurations begin their climb at each rung."""
        return (self.configurations, *repeat(0, len(self.ladder.rungs) - 1))

    def next_requests(self, history: History, *, capacity: int) -> list[Request]:
        """See ``Search``."""
        return self._bracket().next_requests(history, capacity=capacity)

    def eliminated(self, history: History) -> list[int]:
        """See ``Search``."""
        return self._bracket().eliminated(history)

    def _bracket(self) -> Bracket:
        return Bracket(numbers=range(self.configurations), first_rung=0, quotas=self.evaluations_per_rung())


@dataclass(frozen=True, slots=True, kw_only=True)
class AsynchronousHalving:
    """Asynchronous successive halving, promotion type: no worker ever waits for a rung to close.

    A configuration climbs as soon as it is among the best ``1 / reduction_factor`` of those that have ended at its
    rung; the highest such rung goes first, and with nobody to promote a new configuration starts. Some climb that
    a later arrival would have beaten, so the upper rungs see at least the announced number of evaluations, and
    usually more.
    Raises: LadderError if there are too few configurations for the rungs, or ``reduction_factor`` is below 2.
    Source: Li et al. 2020, arXiv:1810.05934, Algorithm 2.
    """

    ladder: Ladder
    configurations: int
    reduction_factor: int = 3

    def __post_init__(self) -> None:
        check_climb(self.configurations, len(self.ladder.rungs), self.reduction_factor)

    @property
    def fingerprint(self) -> str:
        """A string that changes when a study made with this search cannot be continued with another."""
        return f"asynchronous halving, reduction factor {self.reduction_factor}"

    def evaluations_per_rung(self) -> tuple[int, ...]:
        """Return how many evaluations each rung sees at least, if none fails or diverges."""
        return divided(self.configurations, len(self.ladder.rungs), self.reduction_factor)

    def started_per_rung(self) -> tuple[int, ...]:
        """Return how many configurations begin their climb at each rung."""
        return (self.configurations, *repeat(0, len(self.ladder.rungs) - 1))

    def next_requests(self, history: History, *, capacity: int) -> list[Request]:
        """See ``Search``."""
        requests: list[Request] = []
        numbers = range(self.configurations)
        for rung in reversed(range(len(self.ladder.rungs) - 1)):
            ended = history.rung(rung, part=numbers)
            limit = ended.num_ended // self.reduction_factor
            most = capacity - len(requests)
            requests += [Request(number, rung + 1) for number in ended.promotable(limit=limit, most=most)]
        requests += first_requests(history, numbers, rung=0, capacity=capacity - len(requests))
        if not requests and not history.pending and capacity > 0:
            return self._last_resort(history)
        return requests

    def eliminated(self, history: History) -> list[int]:
        """See ``Search``."""
        numbers = range(self.configurations)
        found = []
        # How many more may still arrive at a rung: the new ones at the lowest, above it all that might be
        # promoted.
        coming = self.configurations - history.rung(0, part=numbers).num_started
        for rung in range(len(self.ladder.rungs) - 1):
            here = history.rung(rung, part=numbers)
            limit = max(1, (here.num_started + coming) // self.reduction_factor)
            is_closed = coming == 0 and here.num_pending == 0
            found += here.beaten(limit=limit, is_closed=is_closed)
            climbing = here.num_promotable(limit=limit) if is_closed else here.num_hopeful(limit=limit)
            coming += here.num_pending + climbing
        return sorted(found)

    def _last_resort(self, history: History) -> list[Request]:
        """Let the best climb where too few finished for any share of them: a search ends at the top."""
        numbers = range(self.configurations)
        for rung in reversed(range(len(self.ladder.rungs) - 1)):
            if history.rung(rung + 1, part=numbers).num_started > 0:
                return []
            best = history.rung(rung, part=numbers).promotable(limit=1, most=1)
            if best:
                return [Request(best[0], rung + 1)]
        return []


def first_requests(history: History, numbers: range, *, rung: int, capacity: int) -> list[Request]:
    """Return, rising, up to ``capacity`` requests that begin the climb of some of ``numbers`` at ``rung``."""
    drawn = history.unstarted(numbers)[:capacity]
    new = range(max(numbers.start, len(history.configurations)), numbers.stop)[: capacity - len(drawn)]
    return [Request(number, rung) for number in (*drawn, *new)]


@cache
def divided(configurations: int, num_rungs: int, reduction_factor: int) -> tuple[int, ...]:
    """Return how many of ``configurations`` reach each rung: divided every time, rounding down, at least 1."""
    counts = accumulate(
        repeat(reduction_factor, num_rungs - 1),
        lambda count, factor: max(1, count // factor),
        initial=configurations,
    )
    return tuple(counts)


def check_reduction_factor(reduction_factor: int) -> None:
    """Raise LadderError unless one in ``reduction_factor`` configurations can be promoted."""
    if reduction_factor < 2:
        raise LadderError(
            f"reduction_factor is {reduction_factor}, but it must be at least 2, or nothing is eliminated: use 2 "
            "or more, or the search Sweep."
        )
    if reduction_factor > _LARGEST_REDUCTION_FACTOR:
        raise LadderError(
            f"reduction_factor is {shown(reduction_factor)}, but may be {_LARGEST_REDUCTION_FACTOR} at most, or nothing is "
            f"left: use less."
        )


def check_configurations(configurations: int) -> None:
    """Raise LadderError unless there may be so many configurations in a study."""
    if not isinstance(configurations, int):
        raise LadderError(f"configurations is {configurations!r}, but must be a whole number.")
    if configurations > MOST_CONFIGURATIONS:
        raise LadderError(
            f"{shown(configurations)} configurations are more than a study can hold: ask for "
            f"{MOST_CONFIGURATIONS:,} at most."
        )


def check_climb(configurations: int, num_rungs: int, reduction_factor: int) -> None:
    """Raise LadderError unless enough configurations start for one to be left at the last rung."""
    check_reduction_factor(reduction_factor)
    check_configurations(configurations)
    needed = reduction_factor ** (num_rungs - 1)
    if configurations >= needed:
        return
    instead = []
    rungs = 1
    while reduction_factor**rungs <= configurations:
        rungs += 1
    if rungs >= 2:
        instead.append(f"{rungs} rungs")
    smaller = integer_root(max(0, configurations), num_rungs - 1)
    if smaller >= 2:
        instead.append(f"a reduction factor of {smaller}")
    raise LadderError(
        f"{configurations} configurations cannot climb {num_rungs} rungs with a reduction factor of "
        f"{reduction_factor}: ask for at least {' or use '.join([f'{needed} configurations', *instead])}."
    )
