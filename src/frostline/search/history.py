"""What is known of a search: the configurations drawn, what is under way, and the evaluations that ended.

Every query is at most logarithmic in the number of configurations (inserting into a sorted list moves memory,
which for ten thousand numbers takes about a microsecond), because a search asks after every evaluation.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING

from frostline.records import Configuration, Direction, Evaluation, Request, Status, loss_sign
from frostline.search.fronts import climbing_order, num_dominating
from frostline.search.sorted_lists import Key, discard, holds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from collections.abc import Set as AbstractSet


class RungHistory:
    """One rung, for all configurations or for a part of them. Read it; ``History`` writes it.

    They climb by score, or where evaluations tell what their models cost by both (``search.fronts``).
    """

    def __init__(self) -> None:
        self.ranking: list[int] = []
        """The finished configurations, best score first, ties by number; what diverged or failed is not in it."""
        self.num_started = 0
        """How many are pending or ended, however they ended."""
        self.num_ended = 0
        self._keys: list[Key] = []
        """Of the ranking: the score with its sign turned so that less is better, and the number."""
        self._key_of: dict[int, Key] = {}
        """The same, or where models' costs count the place in the order, and the number."""
        self._points: dict[int, tuple[float, float]] = {}
        """Losses and what the models cost."""
        self._costs_count = False
        """Whether any evaluation told that."""
        self._order: list[int] | None = None
        """By these; None: it has to be made anew."""
        # The contenders are those of the ranking that were promoted or still can be: all but the eliminated.
        self._contenders: list[Key] = []
        self._unpromoted: list[Key] = []
        self._unpromotable: list[int] = []
        self._seconds_of: dict[int, float] = {}
        self._seconds: float | None = 0.0
        self._seconds_of_best: list[float] | None = None

    @property
    def seconds(self) -> float:
        """What the evaluations that ended took, summed by number: a closed rung's is summed once."""
        if self._seconds is None:
            self._seconds = sum(self._seconds_of[number] for number in sorted(self._seconds_of))
        return self._seconds

    def dearness(self, count: int) -> float:
        """Return what the first ``count`` to climb took each, in units of what all did that finished; 1 if nobody knows."""
        if self._seconds_of_best is None:
            self._seconds_of_best = [*accumulate((self._seconds_of[number] for number in self.order), initial=0.0)]
        seconds, ranked = self._seconds_of_best, len(self.ranking)
        count = min(count, ranked)
        return (seconds[count] / count) / (seconds[-1] / ranked) if count and seconds[-1] > 0.0 else 1.0

    @property
    def losses(self) -> list[float]:
        """What the ranking is by: the scores with their sign turned so that less is better, best first."""
        return [loss for loss, _ in self._keys]

    @property
    def num_pending(self) -> int:
        """How many are under way."""
        return self.num_started - self.num_ended

    @property
    def order(self) -> list[int]:
        """The finished configurations in the order in which they climb: the ranking, unless their models' costs count."""
        self._settle()
        return self.ranking if self._order is None else self._order

    def promotable(self, *, limit: int, most: int) -> list[int]:
        """Return, in order, up to ``most`` of the first ``limit`` to climb that are not yet started at a higher rung."""
        number = self.num_promotable(limit=limit)
        return [number for _, number in self._unpromoted[: min(most, number)]]

    def num_promotable(self, *, limit: int) -> int:
        """Return how many of the first ``limit`` to climb are not yet started at a higher rung."""
        self._settle()
        if limit >= len(self._contenders):
            return len(self._unpromoted)
        return bisect_left(self._unpromoted, self._contenders[limit])

    def num_hopeful(self, *, limit: int) -> int:
        """Return how many that are not yet started higher may be of the first ``limit``, whatever else ends here."""
        return len(self._hopeful(limit)) if self._costs_count else self.num_promotable(limit=limit)

    def beaten(self, *, limit: int, is_closed: bool = False) -> list[int]:
        """Return whom it eliminates that only the first ``limit`` climb: the worse, the diverged and the failed.

        Unless the rung ``is_closed``, they are those who will not climb whatever else ends here.
        """
        if self._costs_count and not is_closed:
            hopeful = self._hopeful(limit)
            return [number for _, number in self._unpromoted if number not in hopeful] + self._unpromotable
        # Places in a ranking only ever get worse.
        staying = self.num_promotable(limit=limit)
        return [number for _, number in self._unpromoted[staying:]] + self._unpromotable

    def _settle(self) -> None:
        """Put into order who has ended since it was made, where models' costs count."""
        if not self._costs_count or self._order is not None:
            return
        self._order = climbing_order(self._points)
        self._key_of = {number: (place, number) for place, number in enumerate(self._order)}
        self._contenders = sorted(self._key_of[number] for _, number in self._contenders)
        self._unpromoted = sorted(self._key_of[number] for _, number in self._unpromoted)

    def _hopeful(self, limit: int) -> set[int]:
        # Places by fronts may get better, but whom so many dominate has as many before it.
        dominating = num_dominating({number: self._points[number] for _, number in self._contenders})
        return {number for _, number in self._unpromoted if dominating[number] < limit}

    def _finish(self, number: int, key: Key | None, *, seconds: float, model_cost: float | None) -> None:
        self.num_ended += 1
        self._seconds_of[number], self._seconds, self._seconds_of_best = seconds, None, None
        if key is None:
            insort(self._unpromotable, number)
            return
        position = bisect_left(self._keys, key)
        self._keys.insert(position, key)
        self.ranking.insert(position, number)
        self._costs_count |= model_cost is not None
        self._points[number], self._order = (key[0], math.inf if model_cost is None else model_cost), None
        self._key_of[number] = key
        insort(self._contenders, key)
        insort(self._unpromoted, key)

    def _promote(self, number: int) -> None:
        if (key := self._key_of.get(number)) is not None:
            discard(self._unpromoted, key)
            if not holds(self._contenders, key):
                insort(self._contenders, key)

    def _eliminate(self, number: int) -> None:
        discard(self._unpromotable, number)
        key = self._key_of.get(number)
        if key is not None and discard(self._unpromoted, key):
            discard(self._contenders, key)


class History:
    """Everything that a search knows. What follows from it does not depend on the order in which it became known.

    ``eliminate`` is told that a configuration's trial is closed, so that a search need not name it again. Whether that
    is told changes nothing about what a search asks for next, unless it is later asked for more configurations: those
    eliminated by then do not compete with the new ones.
    """

    def __init__(self, direction: Direction) -> None:
        self.direction: Direction = direction
        self._configurations: list[Configuration] = []
        self._evaluations: list[Evaluation] = []
        self._found: dict[tuple[int, int], Evaluation] = {}
        self._pending: dict[Request, None] = {}
        self._begun: set[tuple[int, int]] = set()
        self._num_pending: list[int] = []
        self._unstarted: list[int] = []
        self._eliminated: set[int] = set()
        self._num_rungs = 0
        self._has_finished = False
        self._parts: dict[range | None, list[RungHistory]] = {}

    @property
    def configurations(self) -> Sequence[Configuration]:
        """The configurations, each at the index that is its number."""
        return self._configurations

    def configuration_of(self, evaluation: Evaluation) -> Configuration:
        """Return the configuration that was evaluated: where an objective asked for other values than drawn, those."""
        drawn = self._configurations[evaluation.number]
        return replace(drawn, hyperparameters=evaluation.suggested) if evaluation.suggested else drawn

    @property
    def pending(self) -> AbstractSet[Request]:
        """The requests under way, oldest first."""
        return self._pending.keys()

    @property
    def eliminated(self) -> AbstractSet[int]:
        """The configurations whose climb was ended."""
        return self._eliminated

    @property
    def num_rungs(self) -> int:
        """How many rungs, counted from the lowest of the ladder, something is known of."""
        return self._num_rungs

    @property
    def has_finished(self) -> bool:
        """Whether any evaluation finished, and neither diverged nor failed."""
        return self._has_finished

    @property
    def num_evaluations(self) -> int:
        """How many evaluations ended."""
        return len(self._evaluations)

    def add_configuration(self, configuration: Configuration) -> None:
        """Add the next configuration."""
        number = len(self._configurations)
        assert configuration.number == number, (
            f"configuration {configuration.number} cannot come after {number - 1}"
        )
        self._configurations.append(configuration)
        self._num_pending.append(0)
        self._unstarted.append(number)

    def start(self, request: Request) -> None:
        """Let a request be under way."""
        assert request not in self._pending, f"{request} was started twice"
        assert (request.number, request.rung) not in self._found, f"{request} has ended, and was started again"
        self._pending[request] = None
        self._begin(request)

    def finish(self, evaluation: Evaluation) -> None:
        """Let a request have ended, however it did; one that was not under way is started first."""
        request, number, rung = evaluation.request, evaluation.number, evaluation.rung
        assert (number, rung) not in self._found, f"{request} has ended twice"
        if request in self._pending:
            del self._pending[request]
        else:
            self._begin(request)
        self._num_pending[number] -= 1
        self._found[number, rung] = evaluation
        self._evaluations.append(evaluation)
        self._has_finished |= evaluation.status is Status.FINISHED
        for rungs in self._rungs_of(number, rung):
            self._put(rungs, evaluation)

    def eliminate(self, number: int) -> None:
        """Let a configuration get no further."""
        if number in self._eliminated:
            return
        self._eliminated.add(number)
        discard(self._unstarted, number)
        for numbers, rungs in self._parts.items():
            if numbers is None or number in numbers:
                for rung in rungs:
                    rung._eliminate(number)

    def evaluation(self, number: int, rung: int) -> Evaluation | None:
        """Return the evaluation of a configuration at a rung, if it ended."""
        return self._found.get((number, rung))

    def evaluations_of(self, number: int) -> list[Evaluation]:
        """Return the evaluations of a configuration that ended, the lowest rung first."""
        found = (self._found.get((number, rung)) for rung in range(self.num_rungs))
        return [evaluation for evaluation in found if evaluation is not None]

    def is_pending(self, number: int) -> bool:
        """Return whether a configuration is under way at any rung."""
        return self._num_pending[number] > 0

    def has_begun(self, number: int, rung: int) -> bool:
        """Return whether a configuration is under way at a rung, or its evaluation there ended."""
        return (number, rung) in self._begun

    def last_evaluation(self, number: int) -> Evaluation | None:
        """Return the evaluation of a configuration at the highest rung where it has one."""
        for rung in reversed(range(self.num_rungs)):
            evaluation = self._found.get((number, rung))
            if evaluation is not None:
                return evaluation
        return None

    def evaluations(self, *, since: int = 0) -> Iterator[Evaluation]:
        """Return the evaluations in the order in which they ended, without the first ``since``."""
        return iter(self._evaluations[since:])

    def rung(self, index: int, *, part: range | None = None) -> RungHistory:
        """Return what is known of a rung, by all configurations or by those numbered in ``part`` alone.

        Either is gathered when it is first asked for and kept up to date from then on.
        """
        if part not in self._parts:
            self._gather(part)
        rungs = self._parts[part]
        while len(rungs) <= index:
            rungs.append(RungHistory())
        return rungs[index]

    def unstarted(self, numbers: range) -> list[int]:
        """Return, rising, those of ``numbers`` that are drawn, but neither evaluated nor under way at any rung."""
        first = bisect_left(self._unstarted, numbers.start)
        return self._unstarted[first : bisect_left(self._unstarted, numbers.stop, lo=first)]

    def _begin(self, request: Request) -> None:
        number, rung = request.number, request.rung
        discard(self._unstarted, number)
        self._begun.add((number, rung))
        self._num_rungs = max(self._num_rungs, rung + 1)
        self._num_pending[number] += 1
        for rungs in self._rungs_of(number, rung):
            _count_start(rungs, number, rung)

    def _rungs_of(self, number: int, rung: int) -> Iterator[list[RungHistory]]:
        for numbers, rungs in self._parts.items():
            if numbers is None or number in numbers:
                while len(rungs) <= rung:
                    rungs.append(RungHistory())
                yield rungs

    def _put(self, rungs: list[RungHistory], evaluation: Evaluation) -> None:
        number, rung = evaluation.number, evaluation.rung
        key = None
        if evaluation.status is Status.FINISHED:
            assert evaluation.score is not None
            key = (loss_sign(self.direction) * evaluation.score, number)
        rungs[rung]._finish(number, key, seconds=evaluation.cost.seconds, model_cost=evaluation.model_cost)
        if any((number, higher) in self._begun for higher in range(rung + 1, self.num_rungs)):
            rungs[rung]._promote(number)
        if number in self._eliminated:
            rungs[rung]._eliminate(number)

    def _gather(self, part: range | None) -> None:
        rungs: list[RungHistory] = [RungHistory() for _ in range(self.num_rungs)]
        for request in self._pending:
            if part is None or request.number in part:
                _count_start(rungs, request.number, request.rung)
        for evaluation in self._evaluations:
            if part is None or evaluation.number in part:
                _count_start(rungs, evaluation.number, evaluation.rung)
                self._put(rungs, evaluation)
        self._parts[part] = rungs


def _count_start(rungs: list[RungHistory], number: int, rung: int) -> None:
    rungs[rung].num_started += 1
    for lower in rungs[:rung]:
        lower._promote(number)
