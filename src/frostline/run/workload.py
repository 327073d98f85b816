"""What an executor is to evaluate, and how executors are made for it: here, unless somebody hands over another way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from frostline.costs.admission import require_memory
from frostline.populations.engines import Engine
from frostline.populations.memory_budget import MemoryBudget
from frostline.populations.packing import Packing
from frostline.populations.population import Population
from frostline.populations.prefix.prefix_store import PrefixStore
from frostline.populations.programs import Programs
from frostline.run.executors import Evaluator, PopulationExecutor, SerialExecutor
from frostline.run.options import TrainingOptions, memory_of
from frostline.training.course import TrainingSettings, checkpoints_of
from frostline.training.serial import train_serially

if TYPE_CHECKING:
    from frostline.protocols import Executor, Task
    from frostline.records import Evaluation, Job, Progress
    from frostline.search.interface import Rungs
    from frostline.training.black_box import BlackBox

# How many jobs are taken from a study at once, to be packed into populations.
_CAPACITY = 32

# A sampler that learns from what was evaluated has to see some of it before it draws more.
_CAPACITY_LEARNING = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskTraining:
    """The trainings of a task in one study: what becomes of a job, wherever that is. It can be pickled if the task can."""

    task: Task
    options: TrainingOptions
    study: str
    seed: int

    @property
    def settings(self) -> TrainingSettings:
        """How they run."""
        return self.options.settings(study=self.study, seed=self.seed)

    def __call__(self, job: Job) -> Evaluation:
        """Train one configuration by itself, and return its evaluation."""
        return train_serially(self.task, job, self.settings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The trainings of one search. What of it travels to other processes is ``training``; the rest stays with the loop."""

    training: TaskTraining | BlackBox
    ladder: Rungs
    learns: bool = False
    """Whether configurations are drawn by what was evaluated: then few are to be under way at once."""
    progress: Callable[[Progress], None] = lambda _: None
    """To be told how far populations are."""

    @property
    def evaluate(self) -> Evaluator:
        """Evaluates one job in the process that calls it, by itself; one that raises is an evaluation that failed."""
        return Evaluator(train=self.training)


class ExecutorFactory(Protocol):
    """Makes the executor of a search: ``local_executor``, or what stands in for it."""

    def __call__(self, workload: Workload) -> Executor:
        """Return the executor of ``workload``; raise what makes it impossible before anything is trained."""
        ...


def local_executor(workload: Workload) -> Executor:
    """Return what evaluates in this process: a task's configurations in populations, unless its options say otherwise.

    Raises: NotEnoughMemoryError if the largest training of the search is predicted not to fit into the memory.
    """
    training = workload.training
    if not isinstance(training, TaskTraining):
        return SerialExecutor(workload.evaluate)
    settings, options = training.settings, training.options
    most = max(rung.trainable_layers for rung in workload.ladder.rungs)
    require_memory(training.task, trainable_layers=most, available=memory_of(options, settings))
    checkpoints = checkpoints_of(training.task, settings)
    assert checkpoints is not None, "a study keeps checkpoints"
    engine = Engine.parse(options.engine)
    if engine is Engine.SERIAL:
        return SerialExecutor(workload.evaluate, forget=checkpoints.forget)
    budget = MemoryBudget.parse(options.memory, device=settings.device_plan.device)
    programs = Programs(training.task, root_seed=settings.root_seed)
    populations = _Populations(
        training=training,
        programs=programs,
        engine=engine,
        budget=budget,
        store=budget.store(options.prefix_cache, directory=options.runs),
        progress=workload.progress,
    )
    packing = Packing(
        program_of=programs.of,
        num_layers=workload.ladder.num_layers,
        packs_full=engine in (Engine.STACKED, Engine.COMPILED),
    )
    return PopulationExecutor(
        populate=populations,
        evaluate=workload.evaluate,
        packing=packing,
        capacity=_CAPACITY_LEARNING if workload.learns else _CAPACITY,
        drop_checkpoints=checkpoints.forget,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Populations:
    """Makes the populations of one search, with one store of the frozen layers' outputs for all."""

    training: TaskTraining
    programs: Programs
    engine: Engine
    budget: MemoryBudget
    store: PrefixStore
    progress: Callable[[Progress], None]

    def __call__(self, jobs: Sequence[Job]) -> Population:
        self.store.belongs_to(self.programs.of(jobs[0].configuration))
        return Population(
            self.training.task,
            jobs,
            self.training.settings,
            engine=self.engine,
            memory_bytes=self.budget.left_beside(self.store),
            store=self.store,
            observe=self.progress,
        )
