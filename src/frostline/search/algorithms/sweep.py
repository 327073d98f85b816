"""Searches without elimination: every configuration at every rung, or each at full fidelity alone."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, islice, repeat
from typing import TYPE_CHECKING

from frostline.errors import LadderError
from frostline.records import Request, Status
from frostline.search.algorithms.halving import check_configurations, first_requests

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from frostline.search.history import History
    from frostline.search.interface import Rungs


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """Every configuration at every rung: what a landscape and an audit are made of.

    One configuration after the other, and of each as many rungs at once as can be, so that rungs of different numbers
    of layers share one prefix: a rung that trains other layers than the one below starts from scratch, and waits for
    nothing; one that continues the one below waits until that has finished; the last one, at full fidelity, until all
    others have ended. What diverges is not continued, and says nothing of the other rungs: they are evaluated all the same.
    What fails at a rung gets no further: of its rungs those under way end, and no other begins.
    Raises: LadderError if there is no configuration.
    """

    ladder: Rungs
    configurations: int

    def __post_init__(self) -> None:
        _check_positive(self.configurations)

    @property
    def fingerprint(self) -> str:
        """A string that changes when a study made with this search cannot be continued with another."""
        return "sweep"

    def evaluations_per_rung(self) -> tuple[int, ...]:
        """Return how many evaluations each rung sees if none fails or diverges."""
        return (self.configurations,) * len(self.ladder.rungs)

    def started_per_rung(self) -> tuple[int, ...]:
        """Return how many configurations begin their climb at each rung."""
        return (self.configurations, *repeat(0, len(self.ladder.rungs) - 1))

    def next_requests(self, history: History, *, capacity: int) -> list[Request]:
        """See ``Search``."""
        new = range(len(history.configurations), self.configurations)
        numbers = chain(self._unended(history), new)
        requests = chain.from_iterable(self._requests_of(number, history) for number in numbers)
        return list(islice(requests, capacity))

    def eliminated(self, history: History) -> list[int]:
        """Return those of which nothing is under way and nothing can begin any more, below full fidelity."""
        last = len(self.ladder.rungs) - 1
        stopped = {number for number in self._stopped(history) if history.evaluation(number, last) is None}
        return sorted(n for n in stopped if not history.is_pending(n) and not self._requests_of(n, history))

    def _unended(self, history: History) -> Iterable[int]:
        """Return, rising, the configurations that are drawn and neither at full fidelity nor eliminated.

        Where something is missing, either nothing was begun, or something is under way, or the highest rung that was
        begun has ended and is not the last. The active configurations alone are looked at, not all.
        """
        numbers = range(self.configurations)
        found = set(history.unstarted(numbers))
        found.update(request.number for request in history.pending if request.number in numbers)
        for rung in range(len(self.ladder.rungs) - 1):
            finished = history.rung(rung, part=numbers)
            found.update(finished.promotable(limit=self.configurations, most=self.configurations))
        found.update(self._stopped(history))
        return sorted(found)

    def _stopped(self, history: History) -> Iterable[int]:
        """Return the configurations that failed or diverged somewhere below full fidelity and are not eliminated yet."""
        numbers = range(self.configurations)
        rungs = (history.rung(rung, part=numbers) for rung in range(len(self.ladder.rungs) - 1))
        return chain.from_iterable(rung.beaten(limit=self.configurations) for rung in rungs)

    def _requests_of(self, number: int, history: History) -> list[Request]:
        """Return what may be asked for of one configuration now, the lowest rung first."""
        ended = [history.evaluation(number, rung) for rung in range(len(self.ladder.rungs))]
        statuses = [None if evaluation is None else evaluation.status for evaluation in ended]
        if Status.FAILED in statuses:
            return []
        rungs, waited_for = [], False
        *below, last = range(len(statuses))
        for rung in (*below, last):
            if self.ladder.continues(rung) and self._diverged_below(rung, statuses):
                continue
            is_next = not self.ladder.continues(rung) or statuses[rung - 1] is Status.FINISHED
            if statuses[rung] is None and is_next and not (rung == last and waited_for):
                rungs.append(rung)
            waited_for |= statuses[rung] is None
        requests = (Request(number, rung) for rung in rungs)
        return [request for request in requests if request not in history.pending]

    def _diverged_below(self, rung: int, statuses: Sequence[Status | None]) -> bool:
        """Return whether one of the rungs that ``rung`` continues has diverged."""
        while self.ladder.continues(rung):
            rung -= 1
            if statuses[rung] is Status.DIVERGED:
                return True
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class FullFidelity:
    """Every configuration at the last rung alone: plain random search, or grid search, depending on the sampling.

    Raises: LadderError if there is no configuration.
    """

    ladder: Rungs
    configurations: int

    def __post_init__(self) -> None:
        _check_positive(self.configurations)

    @property
    def fingerprint(self) -> str:
        """A string that changes when a study made with this search cannot be continued with another."""
        return "full fidelity"

    def evaluations_per_rung(self) -> tuple[int, ...]:
        """Return how many evaluations each rung sees: exactly, whatever fails or diverges."""
        return (*repeat(0, len(self.ladder.rungs) - 1), self.configurations)

    def started_per_rung(self) -> tuple[int, ...]:
        """Return how many configurations begin at each rung."""
        return self.evaluations_per_rung()

    def next_requests(self, history: History, *, capacity: int) -> list[Request]:
        """See ``Search``."""
        return first_requests(
            history, range(self.configurations), rung=len(self.ladder.rungs) - 1, capacity=capacity
        )

    def eliminated(self, history: History) -> list[int]:  # noqa: ARG002 - every evaluation is at full fidelity
        """See ``Search``."""
        return []


def _check_positive(configurations: int) -> None:
    check_configurations(configurations)
    if configurations < 1:
        raise LadderError(
            f"{configurations} configurations were asked for, but a search needs at least 1: ask for more."
        )
