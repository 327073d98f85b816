"""What is known of a search: the configurations drawn, what is under way, and the evaluations that ended.

Every query is at most logarithmic in the number of configurations (inserting into a sorted list moves memory,
which for ten thousand numbers takes about a microsecond), because a search asks after every evaluation.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.records import Configuration, Direction, Evaluation, Request, Status, loss_sign
from frostline.search.rung_history import RungHistory
from frostline.search.sorted_lists import discard

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from collections.abc import Set as AbstractSet


_Part = tuple[range | None, bool]
"""Numbers of configurations, None for all, and whether they climb by variety too."""


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
        self._parts: dict[_Part, list[RungHistory]] = {}

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
        for (numbers, _), rungs in self._parts.items():
            if numbers is None or number in numbers:
                for rung in rungs:
                    rung.eliminate(number)

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

    def rung(self, index: int, *, part: range | None = None, varies: bool = False) -> RungHistory:
        """Return what is known of a rung, by all configurations or by those numbered in ``part`` alone.

        If it ``varies``, configurations climb from it by score and variety (``search.variety``), once it is closed.
        Each is gathered when it is first asked for and kept up to date from then on.
        """
        rungs = self._parts.get((part, varies))
        if rungs is None:
            rungs = self._gather((part, varies))
        while len(rungs) <= index:
            rungs.append(RungHistory(varies=varies))
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
        for (numbers, varies), rungs in self._parts.items():
            if numbers is None or number in numbers:
                while len(rungs) <= rung:
                    rungs.append(RungHistory(varies=varies))
                yield rungs

    def _put(self, rungs: list[RungHistory], evaluation: Evaluation) -> None:
        number, rung = evaluation.number, evaluation.rung
        key = None
        if evaluation.status is Status.FINISHED:
            assert evaluation.score is not None
            key = (loss_sign(self.direction) * evaluation.score, number)
        rungs[rung].finish(
            number,
            key,
            cost=evaluation.cost,
            model_cost=evaluation.model_cost,
            values=self.configuration_of(evaluation).hyperparameters,
        )
        if any((number, higher) in self._begun for higher in range(rung + 1, self.num_rungs)):
            rungs[rung].promote(number)
        if number in self._eliminated:
            rungs[rung].eliminate(number)

    def _gather(self, part: _Part) -> list[RungHistory]:
        numbers, varies = part
        rungs = [RungHistory(varies=varies) for _ in range(self.num_rungs)]
        for request in self._pending:
            if numbers is None or request.number in numbers:
                _count_start(rungs, request.number, request.rung)
        for evaluation in self._evaluations:
            if numbers is None or evaluation.number in numbers:
                _count_start(rungs, evaluation.number, evaluation.rung)
                self._put(rungs, evaluation)
        self._parts[part] = rungs
        return rungs


def _count_start(rungs: list[RungHistory], number: int, rung: int) -> None:
    rungs[rung].num_started += 1
    for lower in rungs[:rung]:
        lower.promote(number)
