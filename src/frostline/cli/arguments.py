"""What several commands take: each option said once, those that travel together as one object (``grouped``).

Nothing that is slow to import is loaded before it is used, and what can be refused without it is refused first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from frostline.cli.naming import check_ladder, check_rungs, check_sampler, search_named
from frostline.errors import OptionError, SearchSpaceError
from frostline.inputs.credentials import without_password
from frostline.inputs.whole_numbers import check_seed
from frostline.populations.engines import Engine
from frostline.run.options import AUTO, OFF, TrainingOptions, parse_count
from frostline.sizes import parse_size
from frostline.store.storage import DEFAULT_STORAGE
from frostline.store.terms import TaskReference

if TYPE_CHECKING:
    from frostline.protocols import Task
    from frostline.records import Value
    from frostline.search.sampling import Sampling

SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="An option of the task. Repeat for more.")
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
PrecisionOption = Annotated[str, typer.Option("--precision", help="float32, or bfloat16 for autocast.")]
MemoryOption = Annotated[
    str, typer.Option("--memory", help="What training may take, such as 8GiB. Default: what is free.")
]
ThreadsOption = Annotated[
    str,
    typer.Option("--threads", help="How many compute on the CPU. auto: as many as are measured to be fastest."),
]
SeedOption = Annotated[int, typer.Option("--seed", help="The root of every random stream.")]
StorageOption = Annotated[
    str, typer.Option("--storage", help="A database URL, the path of a journal file, or :memory:.")
]
StudyArgument = Annotated[str, typer.Argument(metavar="STUDY", help="The name of a study.")]
HyperparametersOption = Annotated[
    str | None, typer.Option("--configuration", help="JSON; what it leaves out is the task's own.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskArguments:
    """A task as it is named on the command line."""

    task: Annotated[str, typer.Argument(metavar="TASK", help="A built-in task, or path/to/file.py:NAME.")]
    options: SetOption = None

    def load(self) -> Task:
        """Return the task."""
        from frostline.tasks.loading import task_named

        return task_named(self.task, self.options)

    def reference(self, precision: str) -> TaskReference:
        """Return what names the task, with its options, on the command line."""
        return TaskReference(name=self.task, options=tuple(self.options or ()), precision=precision)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceArguments:
    """Where a study is kept, and the seed of what is drawn for it."""

    storage: StorageOption = DEFAULT_STORAGE
    seed: SeedOption = 0

    def __post_init__(self) -> None:
        check_seed("--seed", self.seed)

    @property
    def words(self) -> list[str]:
        """The words that say the same on another command line, without a password."""
        storage = [] if self.storage == DEFAULT_STORAGE else ["--storage", without_password(self.storage)]
        return [*storage, *(["--seed", f"{self.seed}"] if self.seed else [])]


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderArguments:
    """Which search, on which ladder."""

    ladder: Annotated[
        str | None,
        typer.Option(
            "--ladder",
            help="sieve, diagonal, layers-only, samples-only, rungs as LAYERS:SAMPLES,LAYERS:SAMPLES,..., audit:STUDY for "
            "what an audit recommends, or auto for a small audit first. Default: sieve under a budget, else diagonal.",
        ),
    ] = None
    rungs: Annotated[
        int | None,
        typer.Option("--rungs", help="The number of rungs of diagonal, layers-only and samples-only. Default: 3."),
    ] = None
    search: Annotated[str, typer.Option("--search", help="halving, hyperband, asynchronous, sweep or full.")] = (
        "halving"
    )

    def __post_init__(self) -> None:
        if self.ladder is not None:
            check_ladder(self.ladder)
            check_rungs(self.ladder, self.rungs)
        search_named(self.search)


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingArguments:
    """Where configurations come from."""

    space: Annotated[Path | None, typer.Option("--space", help="A TOML file with the search space.")] = None
    sampler: Annotated[str, typer.Option("--sampler", help="random, qmc, tpe, gp, cmaes or grid.")] = "random"
    grid_points: Annotated[
        int, typer.Option("--grid-points", help="Points per continuous dimension of a grid.")
    ] = 3
    defaults: Annotated[bool, typer.Option(help="Let the task's own configuration take part.")] = True

    def __post_init__(self) -> None:
        check_sampler(self.sampler)
        if self.space is not None and not self.space.is_file():
            raise OptionError(f"--space {self.space}: there is no such file.")

    @property
    def space_words(self) -> list[str]:
        """The words that name the same space on another command line."""
        return [] if self.space is None else ["--space", str(self.space)]

    def in_space(self, task: Task) -> Task:
        """Return the task with the search space of the TOML file, if one is given."""
        if self.space is None:
            return task
        from frostline.search.space import SearchSpace
        from frostline.training.supervised import SupervisedTask

        try:
            text = self.space.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise OptionError(
                f"--space {self.space}: it is no text in UTF-8 ({error}), as TOML must be."
            ) from None
        space = SearchSpace.from_toml(text)
        if not isinstance(task, SupervisedTask):
            raise OptionError(
                f"--space: the task {task.name} is no frostline.SupervisedTask; set its space where it is made."
            )
        return replace(task, space=space)

    def sampling(self, task: Task) -> Sampling:
        """Return what draws configurations from the task's space."""
        from frostline.search.sampling import CMA_ES, GP, QMC, RANDOM, TPE, grid

        if self.sampler == "grid":
            return grid(task.space, num_points=self.grid_points)
        return {"random": RANDOM, "qmc": QMC, "tpe": TPE, "gp": GP, "cmaes": CMA_ES}[self.sampler]

    def initial(self, task: Task) -> tuple[dict[str, Value], ...]:
        """Return the task's own configuration, to be tried first; nothing if it is not to be, or lies outside the space."""
        if not self.defaults or self.sampler == "grid":
            return ()
        from frostline.run.tuning import own_configuration

        try:
            return (own_configuration(task),)
        except SearchSpaceError as error:
            typer.echo(f"the task's own configuration takes no part: {error}")
            return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingArguments:
    """How trainings run."""

    device: DeviceOption = "auto"
    precision: PrecisionOption = "float32"
    engine: Annotated[
        str,
        typer.Option(
            "--engine", help="How a rung is trained together: auto, shared, stacked, compiled; serial: one by one."
        ),
    ] = "auto"
    memory: MemoryOption = "auto"
    prefix_cache: Annotated[
        str,
        typer.Option(
            "--prefix-cache", help="What outputs of frozen layers that come again may take: auto, off or a size."
        ),
    ] = "auto"
    threads: ThreadsOption = AUTO
    workers: Annotated[
        str,
        typer.Option(
            "--workers",
            help="How many processes train side by side. auto: several on the CPU where a training cannot use its cores.",
        ),
    ] = AUTO
    runs: Annotated[Path, typer.Option("--runs", help="The folder of the checkpoints.")] = Path("frostline-runs")

    def __post_init__(self) -> None:
        Engine.parse(self.engine)
        if self.memory != AUTO:
            parse_size(self.memory)
        if self.prefix_cache not in (AUTO, OFF):
            parse_size(self.prefix_cache)
        # For the checks alone.
        self.options()

    def options(self) -> TrainingOptions:
        """Return them as a search and an audit take them."""
        return TrainingOptions(
            device=self.device,
            precision=self.precision,
            engine=self.engine,
            memory=self.memory,
            prefix_cache=self.prefix_cache,
            threads=parse_count("--threads", self.threads),
            workers=parse_count("--workers", self.workers),
            runs=self.runs,
        )
