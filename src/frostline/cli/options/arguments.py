"""What several commands take: each option said once, those that travel together as one object (``grouped``).

Nothing that is slow to import is loaded before it is used, and what can be refused without it is refused first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from frostline.cli.options.grouping import HOW, WHAT, WHERE
from frostline.cli.options.naming import check_ladder, check_rungs, check_sampler
from frostline.errors import OptionError, SearchSpaceError
from frostline.inputs.credentials import without_password
from frostline.inputs.json_values import parse_assignments
from frostline.inputs.whole_numbers import check_seed
from frostline.search.algorithms.search_names import GRID, HALVING, SAMPLERS, sampling_named, search_named
from frostline.store.backends.storage import DEFAULT_STORAGE
from frostline.store.terms import TaskReference

if TYPE_CHECKING:
    from frostline.protocols import Task
    from frostline.records import Value
    from frostline.search.proposals.sampling import Sampling

_GRID_POINTS = 3

SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A task's option; repeat for more.", rich_help_panel=WHAT),
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.", rich_help_panel=HOW)]
PrecisionOption = Annotated[
    str, typer.Option("--precision", help="float32, or bfloat16: autocast.", rich_help_panel=HOW)
]
MemoryOption = Annotated[str, typer.Option("--memory", help="At most so much, such as 8GiB.", rich_help_panel=HOW)]
ThreadsOption = Annotated[
    str,
    typer.Option(
        "--threads",
        help="How many compute on the CPU; auto: as many as are measured to be fastest.",
        rich_help_panel=HOW,
        hidden=True,
    ),
]
SeedOption = Annotated[int, typer.Option("--seed", help="The root of all that is drawn.", rich_help_panel=WHERE)]
StorageOption = Annotated[
    str, typer.Option("--storage", help="A database URL, a journal file, :memory:.", rich_help_panel=WHERE)
]
RungsOption = Annotated[
    int | None,
    typer.Option(
        "--rungs",
        help="How many diagonal, layers-only and samples-only have. Default: 3.",
        rich_help_panel=WHAT,
        hidden=True,
    ),
]
SearchOption = Annotated[
    str,
    typer.Option(
        "--search", help="halving, hyperband, asynchronous, ...", show_default=False, rich_help_panel=WHAT
    ),
]
StudyArgument = Annotated[str, typer.Argument(metavar="STUDY", help="The name of a study.")]
HyperparametersOption = Annotated[
    str | None, typer.Option("--configuration", help="JSON; what it leaves out is the task's own.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskArguments:
    """A task as it is named on the command line."""

    task: Annotated[str, typer.Argument(metavar="TASK", help="A built-in task, file.py, or file.py:NAME.")]
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
    """Where a study is kept, what it is called, and the seed of what is drawn for it."""

    study: Annotated[
        str | None, typer.Option("--study", help="Its name. Default: by the task's.", rich_help_panel=WHERE)
    ] = None
    storage: StorageOption = DEFAULT_STORAGE
    seed: SeedOption = 0

    def __post_init__(self) -> None:
        check_seed("--seed", self.seed)
        if self.study is not None and not self.study.strip():
            raise OptionError("--study is empty: give a name, or leave it out for one by the task's.")

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
            help="sieve, audit:STUDY, auto, ...",
            rich_help_panel=WHAT,
        ),
    ] = None
    """Or layers-only, samples-only, or rungs as LAYERS:SAMPLES,LAYERS:SAMPLES,... "audit:STUDY" is what an audit recommends;
    "auto" makes a small one first. Default: sieve under a budget, else diagonal."""
    rungs: RungsOption = None
    search: SearchOption = HALVING

    def __post_init__(self) -> None:
        if self.ladder is not None:
            check_ladder(self.ladder)
            check_rungs(self.ladder, self.rungs)
        search_named(self.search)


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingArguments:
    """Where configurations come from."""

    space: Annotated[
        Path | None, typer.Option("--space", help="A TOML file with another space.", rich_help_panel=WHAT)
    ] = None
    sampler: Annotated[
        str, typer.Option("--sampler", help=f"{', '.join(SAMPLERS)}.", show_default=False, rich_help_panel=WHAT)
    ] = SAMPLERS[0]
    prior: Annotated[
        list[str] | None,
        typer.Option(
            "--prior",
            metavar="NAME=VALUE",
            help="Where you believe that good values lie: half of what is drawn is near. Repeat for more.",
            rich_help_panel=WHAT,
            hidden=True,
        ),
    ] = None
    grid_points: Annotated[
        int | None,
        typer.Option(
            "--grid-points",
            help=f"Points per continuous dimension of a grid. Default: {_GRID_POINTS}.",
            rich_help_panel=WHAT,
            hidden=True,
        ),
    ] = None
    defaults: Annotated[
        bool,
        typer.Option(
            "--defaults/--no-defaults",
            help="Let the task's own configuration take part.",
            rich_help_panel=WHAT,
            hidden=True,
        ),
    ] = True
    default: Annotated[
        list[str] | None,
        typer.Option(
            "--default",
            metavar="NAME=VALUE",
            help="A value of your own configuration, such as of what --space adds. Repeat for more.",
            rich_help_panel=WHAT,
            hidden=True,
        ),
    ] = None

    def __post_init__(self) -> None:
        check_sampler(self.sampler)
        if self.grid_points is not None and self.sampler != GRID:
            raise OptionError(
                f"--grid-points goes with --sampler {GRID}, not with {self.sampler}: leave it out, or name that one."
            )
        parse_assignments("--default", self.default)
        if parse_assignments("--prior", self.prior) and self.sampler != SAMPLERS[0]:
            raise OptionError(
                f"--prior goes with the sampler {SAMPLERS[0]}, not with {self.sampler}: leave one out."
            )
        if self.space is not None and not self.space.is_file():
            raise OptionError(f"--space {self.space}: there is no such file.")

    @property
    def space_words(self) -> list[str]:
        """The words that say the same space and defaults on another command line."""
        space = [] if self.space is None else ["--space", str(self.space)]
        return [*space, *(word for value in self.default or () for word in ("--default", value))]

    @property
    def space_text(self) -> str | None:
        """What the TOML file says, None if none is given. Raises: OptionError if it is no text."""
        if self.space is None:
            return None
        try:
            return self.space.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise OptionError(
                f"--space {self.space}: it is no text in UTF-8 ({error}), as TOML must be."
            ) from None

    def in_space(self, task: Task, space_text: str | None) -> Task:
        """Return the task with the search space that a TOML file says and the defaults, if any are given."""
        defaults = parse_assignments("--default", self.default)
        if space_text is None and not defaults:
            return task
        from frostline.search.spaces.space import SearchSpace
        from frostline.training.supervised.supervised_task import SupervisedTask

        if not isinstance(task, SupervisedTask):
            option = "--space" if space_text is not None else "--default"
            raise OptionError(
                f"{option}: the task {task.name} is no frostline.SupervisedTask; set both where it is made."
            )
        space = task.space if space_text is None else SearchSpace.from_toml(space_text)
        return replace(task, space=space, defaults={**task.defaults, **defaults})

    def sampling(self, task: Task) -> Sampling:
        """Return what draws configurations from the task's space."""
        prior = parse_assignments("--prior", self.prior)
        if self.sampler != GRID and not prior:
            return sampling_named(self.sampler)
        from frostline.search.proposals.sampling import grid, near

        if prior:
            return near(prior)
        return grid(task.space, num_points=_GRID_POINTS if self.grid_points is None else self.grid_points)

    def initial(self, task: Task) -> tuple[dict[str, Value], ...]:
        """Return the task's own configuration, to be tried first; nothing if it is not to be, or lies outside the space."""
        if not self.defaults or self.sampler == GRID:
            return ()
        from frostline.run.tuning import own_configuration

        try:
            return (own_configuration(task),)
        except SearchSpaceError as error:
            from frostline.cli.display import echo

            echo(f"the task's own configuration takes no part: {error}")
            return ()
