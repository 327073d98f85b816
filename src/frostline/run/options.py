"""How and where a study's trainings run, and the executor that runs them so."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import torch

from frostline.errors import OptionError
from frostline.populations.engines import Engine
from frostline.populations.packing import Packing
from frostline.populations.population import Population
from frostline.populations.prefix.prefix_store import PrefixStore
from frostline.populations.programs import Programs
from frostline.protocols import Executor, Task
from frostline.records import Job, Progress
from frostline.run.executors import LocalExecutor, PopulationExecutor
from frostline.search.mirror import Learning
from frostline.sizes import parse_size
from frostline.training.course import TrainingSettings
from frostline.training.devices import device_plan_of
from frostline.training.memory import available_bytes
from frostline.training.serial import train_serially

# How many jobs are taken from a study at once, to be packed into populations.
_CAPACITY = 32

# A sampler that learns from what was evaluated has to see some of it before it draws more.
_CAPACITY_LEARNING = 8

# What of the free memory populations may use, and what of that the outputs of frozen layers that are kept.
_SHARE_OF_MEMORY = 0.8
_SHARE_OF_CACHE = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOptions:
    """How and where trainings run. What of it changes the numbers is part of a study's terms: ``fingerprint``.

    ``horizon`` and ``num_validations`` are those of ``TrainingSettings``. Configurations are trained together behind one
    frozen prefix: how, says ``engine`` (``Engine``; "serial" for one by one). ``memory`` is what they may take, such as
    "8GiB"; "auto" for most of what is free. ``prefix_cache`` is what the outputs of frozen layers that come again may take:
    a size, "auto" for a part of the memory, or "off". Checkpoints of trainings that may be continued lie in ``runs``.
    Raises: OptionError if one is not among those allowed, or ``runs`` is a file.
    """

    device: str = "auto"
    precision: str = "float32"
    horizon: str = "rung"
    num_validations: int = 4
    engine: str = "auto"
    memory: str = "auto"
    prefix_cache: str = "auto"
    runs: Path = Path("frostline-runs")

    def __post_init__(self) -> None:
        if self.runs.exists() and not self.runs.is_dir():
            raise OptionError(f"runs is {str(self.runs)!r}, which is a file: name a folder for the checkpoints.")

    @property
    def fingerprint(self) -> str:
        """What changes the numbers, as NAME=VALUE."""
        return f"horizon={self.horizon} precision={self.precision} validations={self.num_validations}"

    def settings(self, *, study: str, seed: int) -> TrainingSettings:
        """Return how the trainings of a study run."""
        return TrainingSettings(
            device_plan=device_plan_of(self.device, self.precision),
            root_seed=seed,
            horizon=self.horizon,
            num_validations=self.num_validations,
            checkpoint_directory=self.runs / quote(study, safe=""),  # a name may hold slashes
        )


def executor_of(
    task: Task,
    options: TrainingOptions,
    settings: TrainingSettings,
    *,
    num_layers: int,
    learning: Learning,
    progress: Callable[[Progress], None],
) -> Executor:
    """Return what runs the jobs of a search of ``task``, in populations unless the options say otherwise.

    ``learning`` is that of the sampler: how much of what was evaluated it needs to see before it draws more.
    """
    alone = LocalExecutor(evaluate=functools.partial(train_serially, task, settings=settings))
    engine = Engine.parse(options.engine)
    memory_bytes = None if options.memory == "auto" else parse_size(options.memory)
    store = _prefix_store(options.prefix_cache, memory_bytes=memory_bytes, directory=options.runs)
    if engine is Engine.SERIAL:
        return alone
    programs = Programs(task, root_seed=settings.root_seed)
    populations = _Populations(
        task=task,
        settings=settings,
        programs=programs,
        engine=engine,
        memory_bytes=memory_bytes,
        store=store,
        progress=progress,
    )
    packing = Packing(
        program_of=programs.of, num_layers=num_layers, packs_full=engine in (Engine.STACKED, Engine.COMPILED)
    )
    learns_nothing = learning in (Learning.NOTHING, Learning.SEQUENCE)
    return PopulationExecutor(
        populate=populations,
        alone=alone,
        packing=packing,
        capacity=_CAPACITY if learns_nothing else _CAPACITY_LEARNING,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Populations:
    """Makes the populations of one search, with one store of the frozen layers' outputs for all."""

    task: Task
    settings: TrainingSettings
    programs: Programs
    engine: Engine
    memory_bytes: int | None
    """None: most of what is free when a population is made."""
    store: PrefixStore
    progress: Callable[[Progress], None]

    def __call__(self, jobs: Sequence[Job]) -> Population:
        memory = self.memory_bytes
        if memory is None:
            memory = round(_SHARE_OF_MEMORY * available_bytes(self.settings.device_plan.device))
        self.store.belongs_to(self.programs.of(jobs[0].configuration))
        return Population(
            self.task,
            jobs,
            self.settings,
            engine=self.engine,
            memory_bytes=memory,
            store=self.store,
            observe=self.progress,
        )


def _prefix_store(prefix_cache: str, *, memory_bytes: int | None, directory: Path) -> PrefixStore:
    free = available_bytes(torch.device("cpu"))
    kept = round(_SHARE_OF_CACHE * (free if memory_bytes is None else min(free, memory_bytes)))
    if prefix_cache in ("auto", "off"):
        return PrefixStore(training_bytes=kept if prefix_cache == "auto" else 0, validation_bytes=kept)
    size = parse_size(prefix_cache)
    return PrefixStore(
        training_bytes=size, validation_bytes=min(size, kept), directory=directory if size > free // 2 else None
    )
