"""The executor that trains in the calling process: a task's configurations in populations, unless options say otherwise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from frostline.costs.admission import require_memory
from frostline.populations.engines import Engine
from frostline.populations.memory_budget import MemoryBudget
from frostline.populations.packing import Packing
from frostline.populations.population import Population
from frostline.populations.programs import Programs
from frostline.run.execution.executors import Evaluator, PopulationExecutor, SerialExecutor
from frostline.run.execution.options import memory_of
from frostline.run.execution.stations import Here
from frostline.run.execution.workload import TaskTraining

if TYPE_CHECKING:
    from frostline.populations.prefix.prefix_store import PrefixStore
    from frostline.records import Job, Progress
    from frostline.run.execution.workload import Workload
    from frostline.training.machine.threads import Threads

# How many jobs are taken from a study at once, to be packed into populations.
_CAPACITY = 32

# A sampler that learns from what was evaluated has to see some of it before it draws more.
_CAPACITY_LEARNING = 8


def in_process_executor(
    workload: Workload, threads: Threads, *, trainable_layers: int | None = None
) -> SerialExecutor | PopulationExecutor:
    """Return what evaluates a task's configurations in this process, with these ``threads``.

    It is given trainings of at most ``trainable_layers`` layers; by default those of the last rung too.
    Raises: NotEnoughMemoryError if the largest training of the search is predicted not to fit into the memory.
    """
    training = workload.training
    assert isinstance(training, TaskTraining)
    settings, options = training.settings, training.options
    layers = most_layers(workload) if trainable_layers is None else trainable_layers
    memory = memory_of(options, settings)
    is_host = settings.device_plan.device.type == "cpu"
    require_memory(training.task, trainable_layers=layers, available=memory, is_host=is_host)
    here = Here.on(settings.device_plan.device, memory)
    evaluate = Evaluator(train=partial(training, threads=threads, observe=workload.progress))
    engine = Engine.parse(options.engine)
    if engine is Engine.SERIAL:
        return SerialExecutor(evaluate, forget=workload.forget, here=here)
    budget = MemoryBudget.parse(options.memory, device=settings.device_plan.device)
    programs = Programs(training.task, root_seed=settings.root_seed)
    return PopulationExecutor(
        populate=_Populations(
            training=training,
            programs=programs,
            engine=engine,
            budget=budget,
            store=budget.store(options.prefix_cache, directory=options.local_runs),
            threads=threads,
            progress=workload.progress,
        ),
        evaluate=evaluate,
        packing=packing_of(workload, programs),
        capacity=capacity_of(workload),
        in_waves=workload.in_waves,
        here=here,
        drop_checkpoints=workload.forget,
    )


def most_layers(workload: Workload) -> int:
    """Return the largest number of layers that any training of the search trains."""
    return max(rung.trainable_layers for rung in workload.ladder.rungs)


def packing_of(workload: Workload, programs: Programs) -> Packing:
    """Return which jobs of a task may be trained together."""
    assert isinstance(workload.training, TaskTraining)
    engine = Engine.parse(workload.training.options.engine)
    return Packing(
        program_of=programs.of,
        num_layers=workload.ladder.num_layers,
        packs_full=engine.stacks,
    )


def grouping_of(workload: Workload) -> Callable[[Sequence[Job]], list[list[Job]]]:
    """Return what says which jobs of a task are handed to one worker together: those that it can train so."""
    training = workload.training
    assert isinstance(training, TaskTraining)
    if Engine.parse(training.options.engine) is Engine.SERIAL:
        return lambda jobs: [[job] for job in jobs]
    return packing_of(workload, Programs(training.task, root_seed=training.seed)).groups


def capacity_of(workload: Workload, *, num_workers: int = 1) -> int:
    """Return how many jobs may be under way or wait."""
    return _CAPACITY_LEARNING if workload.learns else _CAPACITY * num_workers


@dataclass(frozen=True, slots=True, kw_only=True)
class _Populations:
    """Makes the populations of one search, with one store of the frozen layers' outputs for all."""

    training: TaskTraining
    programs: Programs
    engine: Engine
    budget: MemoryBudget
    store: PrefixStore
    threads: Threads
    progress: Callable[[Progress], None]

    def __call__(self, jobs: Sequence[Job]) -> Population:
        program = self.programs.of(jobs[0].configuration)
        self.store.belongs_to(training=program, validation=program.validated or program)
        return Population(
            self.training.task,
            jobs,
            self.training.settings,
            engine=self.engine,
            memory_bytes=self.budget.left_beside(self.store),
            store=self.store,
            threads=self.threads,
            observe=self.progress,
        )
