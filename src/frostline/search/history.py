"""What is known of a search: the configurations drawn, what is under way, and the evaluations that ended.

Every query is at most logarithmic in the number of configurations (inserting into a sorted list moves memory,
which for ten thousand numbers takes about a microsecond), because a search asks after every evaluation.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING, TypeVar

from frostline.records import Configuration, Direction, Evaluation, Request, Status, loss_sign

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from collections.abc import Set as AbstractSet

_Key = tuple[float, int]
"""What a ranking is sorted by: the score with its sign turned so that less is better, then the number."""

_Item = TypeVar("_Item", int, _Key)


class RungHistory:
    """One rung, for all configurations or for a part of them. Read it; ``History`` writes it."""

    def __init__(self) -> None:
        self.ranking: list[int] = []
        """The finished configurations, best first, ties by number; what diverged or failed is not in it."""
        self.num_started = 0
        """How many are pending or ended, however they ended."""
        self.num_ended = 0
        self._keys: list[_Key] = []
        self._key_of: dict[int, _Key] = {}
        # The contenders are those of the ranking that were promoted or still can be: all but the eliminated.
        self._contenders: list[_Key] = []
        self._unpromoted: list[_Key] = []
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
        """Return what the best ``count`` of the ranking took each, in units of what all of it did; 1 if nobody knows."""
        if self._seconds_of_best is None:
            self._seconds_of_best = [
                *accumulate((self._seconds_of[number] for number in self.ranking), initial=0.0)
            ]
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

    def promotable(self, *, limit: int, most: int) -> list[int]:
        """Return, best first, up to ``most`` of the best ``limit`` that are not yet started at a higher rung."""
        return [number for _, number in self._unpromoted[: min(most, self.num_promotable(limit=limit))]]

    def num_promotable(self, *, limit: int) -> int:
        """Return how many of the best ``limit`` are not yet started at a higher rung."""
        if limit >= len(self._contenders):
            return len(self._unpromoted)
        return bisect_left(self._unpromoted, self._contenders[limit])

    def beaten(self, *, limit: int) -> list[int]:
        """Return whom it eliminates that only the best ``limit`` climb: the worse, the diverged and the failed."""
        worse = [number for _, number in self._unpromoted[self.num_promotable(limit=limit) :]]
        return worse + self._unpromotable

    def _finish(self, number: int, key: _Key | None, *, seconds: float) -> None:
        self.num_ended += 1
        self._seconds_of[number], self._seconds, self._seconds_of_best = seconds, None, None
        if key is None:
            insort(self._unpromotable, number)
            return
        position = bisect_left(self._keys, key)
        self._keys.insert(position, key)
        self.ranking.insert(position, number)
        self._key_of[number] = key
        insort(self._contenders, key)
        insort(self._unpromoted, key)

    def _promote(self, number: int) -> None:
        if (key := self._key_of.get(number)) is not None:
            _discard(self._unpromoted, key)
            if not _holds(self._contenders, key):
                insort(self._contenders, key)

    def _eliminate(self, number: int) -> None:
        _discard(self._unpromotable, number)
        key = self._key_of.get(number)
        if key is not None and _discard(self._unpromoted, key):
            _discard(self._contenders, key)


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
        self._parts: dict[range | None, list[RungHistory]] = {None: []}

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
        return len(self._parts[None])

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
        for rungs in self._rungs_of(number, rung):
            self._put(rungs, evaluation)

    def eliminate(self, number: int) -> None:
        """Let a configuration get no further."""
        if number in self._eliminated:
            return
        self._eliminated.add(number)
        _discard(self._unstarted, number)
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

        A part is gathered when it is first asked for and kept up to date from then on.
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
        _discard(self._unstarted, number)
        self._begun.add((number, rung))
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
        rungs[rung]._finish(number, key, seconds=evaluation.cost.seconds)
        if any(self.has_begun(number, higher) for higher in range(rung + 1, self.num_rungs)):
            rungs[rung]._promote(number)
        if number in self._eliminated:
            rungs[rung]._eliminate(number)

    def _gather(self, part: range | None) -> None:
        assert part is not None
        rungs: list[RungHistory] = [RungHistory() for _ in range(self.num_rungs)]
        for request in self._pending:
            if request.number in part:
                _count_start(rungs, request.number, request.rung)
        for evaluation in self._evaluations:
            if evaluation.number in part:
                _count_start(rungs, evaluation.number, evaluation.rung)
                self._put(rungs, evaluation)
        self._parts[part] = rungs


def _count_start(rungs: list[RungHistory], number: int, rung: int) -> None:
    rungs[rung].num_started += 1
    for lower in rungs[:rung]:
        lower._promote(number)


def _holds(items: list[_Item], item: _Item) -> bool:
    position = bisect_left(items, item)
    return position < len(items) and items[position] == item


def _discard(items: list[_Item], item: _Item) -> bool:
    """Remove an item from a sorted list; return whether it was there."""
    position = bisect_left(items, item)
    if position < len(items) and items[position] == item:
        del items[position]
        return True
    return False
