"""A simulated clock: any search, with any number of workers, over a recorded table; hours of training in milliseconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from frostline.errors import LadderError
from frostline.records import Configuration
from frostline.research.replay.trace import Patience, Step, Trace, step_of
from frostline.research.replay.unused import Unused
from frostline.run.execution.simulated import SimulatedExecutor
from frostline.run.ledger import MemoryLedger
from frostline.run.loop import Observer, climb
from frostline.search.algorithms.sweep import FullFidelity
from frostline.search.proposals.sampling import Draws
from frostline.seeding import derive_seed

if TYPE_CHECKING:
    from frostline.records import Evaluation, Job
    from frostline.research.replay.recorded import RecordedTask
    from frostline.search.history import History
    from frostline.search.interface import Rungs, Search
    from frostline.search.proposals.sampling import Sampling


class SearchOf(Protocol):
    """Makes a search, such as ``functools.partial(SuccessiveHalving, ladder=ladder)``."""

    def __call__(self, *, configurations: int) -> Search:
        """Return the search over so many configurations; raise LadderError if they are too few for it."""
        ...


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
    unused = Unused(task.landscape, seed=seed, first=task.own)
    steps: list[Step] = []
    ends: list[float] = []
    search = search_of(configurations=min(configurations, len(unused)))
    while True:
        task.check(search.ladder)
        draws = None if sampling is None else _draws(task, sampling, derive_seed(seed, "run", len(ends)))
        recorded = RecordedDraws(task, unused, draws)
        executor = SimulatedExecutor(
            recorded.evaluate, workers=workers, begins_at_seconds=ends[-1] if ends else 0.0
        )
        stepping = Stepping(recorded, executor, run=len(ends))
        ledger = MemoryLedger(task.landscape.direction)
        climb(ledger, search, recorded, executor, stepping)
        steps += stepping.steps
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


class RecordedDraws:
    """The configurations of one run, each one of the table, and their recorded evaluations."""

    def __init__(self, task: RecordedTask, unused: Unused, draws: Draws | None) -> None:
        self.task = task
        self.indices: list[int] = []
        """Where in the table each configuration of the run is."""
        self._unused = unused
        self._draws = draws

    def draw(self, history: History) -> Configuration:
        """Return the next configuration of the table, or the one nearest to what the sampler suggests."""
        draws, unused = self._draws, self._unused
        index = unused.take_next() if draws is None else unused.take_nearest(draws.draw(history))
        self.indices.append(index)
        recorded = self.task.landscape.configurations[index]
        return Configuration(number=len(history.configurations), hyperparameters=recorded.hyperparameters)

    def evaluate(self, job: Job) -> Evaluation:
        """Return how a job ended when the table was recorded."""
        return self.task.evaluate(job, self.indices[job.configuration.number])


class Stepping(Observer):
    """Notes every evaluation of one run as a step."""

    def __init__(self, recorded: RecordedDraws, executor: SimulatedExecutor, *, run: int) -> None:
        self.steps: list[Step] = []
        self._recorded = recorded
        self._executor = executor
        self._run = run

    def ended(self, evaluation: Evaluation, history: History) -> None:
        """See ``Observer``."""
        step = step_of(
            evaluation,
            seconds=self._executor.seconds,
            run=self._run,
            index=self._recorded.indices[evaluation.number],
            direction=history.direction,
        )
        self.steps.append(step)
