"""A simulated clock: any search, with any number of workers, over a recorded table; hours of training in milliseconds."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Protocol

from frostline.errors import LadderError, OptionError
from frostline.records import Configuration, Fidelity, Job
from frostline.research.replay.unused import Unused
from frostline.search.history import History
from frostline.search.sampling import Draws
from frostline.search.sweep import FullFidelity
from frostline.seeding import derive_seed

if TYPE_CHECKING:
    from frostline.records import Evaluation, Request
    from frostline.research.replay.recorded import Goal, RecordedTask
    from frostline.search.interface import Rungs, Search
    from frostline.search.sampling import Sampling


class SearchOf(Protocol):
    """Makes a search, such as ``functools.partial(SuccessiveHalving, ladder=ladder)``."""

    def __call__(self, *, configurations: int) -> Search:
        """Return the search over so many configurations; raise LadderError if they are too few for it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """An evaluation that ended. ``index`` is its configuration's in the table.

    Units: ``seconds`` on the simulated clock when it ended; ``cost`` the seconds it took one worker. A ``loss`` is lower
    if better, and infinite if the training diverged.
    """

    seconds: float
    run: int
    index: int
    fidelity: Fidelity
    loss: float
    cost: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What a search did, in the order of the simulated clock. Units: ``run_ends`` in seconds."""

    steps: tuple[Step, ...]
    full: Fidelity
    run_ends: tuple[float, ...]
    """When each run ended: the first search, and those it was restarted as."""

    @property
    def seconds(self) -> float:
        """When the last evaluation ended."""
        return self.steps[-1].seconds

    @property
    def work(self) -> float:
        """The seconds that all workers trained, in sum."""
        return sum(step.cost for step in self.steps)

    def incumbents(self) -> tuple[Step, ...]:
        """Return the full trainings that were the best so far when they ended: what the search would answer from then on."""
        found: list[Step] = []
        best = math.inf
        for step in self.steps:
            if step.fidelity == self.full and step.loss < best:
                found.append(step)
                best = step.loss
        return tuple(found)

    def incumbent_at(self, seconds: float) -> Step | None:
        """Return the best full training that had ended by ``seconds``, None before the first."""
        return next((step for step in reversed(self.incumbents()) if step.seconds <= seconds), None)

    def time_to(self, target: float) -> float:
        """Return when a full training first reached a loss of at most ``target``; infinite if none did."""
        return next((step.seconds for step in self.incumbents() if step.loss <= target), math.inf)

    def time_to_goal(self, goal: Goal) -> float:
        """Return when the search's answer was first one of the goal's good configurations; infinite if it never was."""
        met = goal.met
        return next((step.seconds for step in self.incumbents() if met[step.index]), math.inf)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a search is restarted: until ``goal`` is met and ``seconds`` are over, or the table is exhausted."""

    goal: Goal
    seconds: float = 0.0

    def is_over(self, trace: Trace) -> bool:
        """Return whether ``trace`` has met the goal and lasted long enough."""
        return trace.seconds >= self.seconds and math.isfinite(trace.time_to_goal(self.goal))


def replay(
    task: RecordedTask,
    search_of: SearchOf,
    *,
    configurations: int,
    seed: int,
    workers: int = 1,
    sampling: Sampling | None = None,
    patience: Patience | None = None,
) -> Trace:
    """Run a search over ``configurations`` of the table, and again over fresh ones as long as ``patience`` asks for it.

    The configurations come in a random order drawn from ``seed``; with ``sampling``, each is the one not used yet that is
    nearest to what that sampler suggests, in the search space scaled to the unit cube, and the sampler learns from the
    recorded one. Runs follow one another; what is left when too few are there for the search is trained in full. Without
    ``patience`` there is one run. Same arguments, same trace.
    Raises: LadderError if the first run has too few configurations, or a rung was not recorded; OptionError if there is
    no worker.
    """
    if workers < 1:
        raise OptionError(f"workers is {workers}, but at least 1 must work: ask for 1 or more.")
    unused = Unused(task.landscape, seed=seed)
    steps: list[Step] = []
    ends: list[float] = []
    search = search_of(configurations=min(configurations, len(unused)))
    while True:
        task.check(search.ladder)
        draws = None if sampling is None else _draws(task, sampling, derive_seed(seed, "run", len(ends)))
        run = _Run(task, search, unused, draws, number=len(ends), start=ends[-1] if ends else 0.0)
        steps += run.to_the_end(workers)
        ends.append(steps[-1].seconds)
        trace = Trace(steps=tuple(steps), full=task.full, run_ends=tuple(ends))
        if patience is None or not unused or patience.is_over(trace):
            return trace
        search = _search_over(search_of, search.ladder, min(configurations, len(unused)))


def _search_over(search_of: SearchOf, ladder: Rungs, configurations: int) -> Search:
    try:
        return search_of(configurations=configurations)
    except LadderError:
        return FullFidelity(ladder=ladder, configurations=configurations)


def _draws(task: RecordedTask, sampling: Sampling, seed: int) -> Draws:
    return Draws(space=task.landscape.space, sampling=sampling, root_seed=seed, direction=task.landscape.direction)


class _Run:
    """One search from its first evaluation to its last."""

    def __init__(
        self,
        task: RecordedTask,
        search: Search,
        unused: Unused,
        draws: Draws | None,
        *,
        number: int,
        start: float,
    ) -> None:
        self._task = task
        self._search = search
        self._unused = unused
        self._draws = draws
        self._number = number
        self._seconds = start
        self._history = History(task.landscape.direction)
        self._indices: list[int] = []
        # Whoever ends first comes first, and of those the one that began first.
        self._under_way: list[tuple[float, int, Evaluation]] = []
        self._order = count()

    def to_the_end(self, workers: int) -> list[Step]:
        """Return the steps of the whole run."""
        steps: list[Step] = []
        while True:
            free = workers - len(self._under_way)
            for request in self._search.next_requests(self._history, capacity=free):
                self._begin(request)
            if not self._under_way:
                return steps
            self._seconds, _, evaluation = heapq.heappop(self._under_way)
            self._history.finish(evaluation)
            steps.append(self._step(evaluation))

    def _begin(self, request: Request) -> None:
        if request.number == len(self._history.configurations):
            self._draw()
        self._history.start(request)
        ladder = self._search.ladder
        # A configuration of a higher bracket has nothing to continue.
        has_below = self._history.evaluation(request.number, request.rung - 1) is not None
        job = Job(
            configuration=self._history.configurations[request.number],
            rung=request.rung,
            fidelity=ladder.rungs[request.rung],
            continued_from=(ladder.rungs[request.rung - 1],)
            if has_below and ladder.continues(request.rung)
            else (),
        )
        evaluation = self._task.evaluate(job, self._indices[request.number])
        ends = self._seconds + evaluation.cost.seconds
        heapq.heappush(self._under_way, (ends, next(self._order), evaluation))

    def _draw(self) -> None:
        if self._draws is None:
            index = self._unused.take_next()
        else:
            index = self._unused.take_nearest(self._draws.draw(self._history))
        self._indices.append(index)
        recorded = self._task.landscape.configurations[index]
        number = len(self._history.configurations)
        self._history.add_configuration(Configuration(number=number, hyperparameters=recorded.hyperparameters))

    def _step(self, evaluation: Evaluation) -> Step:
        score = evaluation.score
        sign = 1.0 if self._task.landscape.direction == "minimize" else -1.0
        return Step(
            seconds=self._seconds,
            run=self._number,
            index=self._indices[evaluation.number],
            fidelity=evaluation.fidelity,
            loss=math.inf if score is None else sign * score,
            cost=evaluation.cost.seconds,
        )
