"""The command `frostline ladder`: the rungs of a search, before it is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from frostline.cli.options.arguments import (
    RungsOption,
    SearchOption,
    SetOption,
    StorageOption,
    TaskArguments,
)
from frostline.cli.options.grouping import WHAT, grouped
from frostline.cli.options.naming import check_known_ladder, check_rungs, ladder_named
from frostline.cli.options.search_size import SearchSize, ladder_table
from frostline.errors import OptionError
from frostline.search.algorithms.search_names import HALVING, LADDERS, search_named
from frostline.store.backends.storage import DEFAULT_STORAGE


@dataclass(frozen=True, slots=True, kw_only=True)
class FullTraining:
    """All layers of a model, trained on all samples: what a ladder climbs to."""

    num_layers: int
    samples: int
    sample_unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedArguments:
    """What is trained on the ladder: a task, or the one of a study, whose terms tell enough without its model."""

    task: Annotated[
        str | None, typer.Argument(metavar="TASK", help="A built-in task, or path/to/file.py:NAME.")
    ] = None
    options: SetOption = None
    study: Annotated[
        str | None, typer.Option("--study", help="In place of TASK: a study of it, whose model need not be built.")
    ] = None
    storage: StorageOption = DEFAULT_STORAGE

    def __post_init__(self) -> None:
        if (self.task is None) == (self.study is None):
            raise OptionError(
                "name either a task, such as `frostline ladder digits-mlp`, or a study of it with --study."
            )
        if self.study is not None and self.options:
            raise OptionError("--set goes with a task: a study has its options already.")

    def full_training(self) -> FullTraining:
        """Return how far a ladder of it can climb."""
        if self.study is not None:
            from frostline.store.reading import read_study

            terms = read_study(self.storage, self.study).terms
            samples = terms.rungs[-1].samples
            return FullTraining(num_layers=terms.num_layers, samples=samples, sample_unit=terms.sample_unit)
        assert self.task is not None
        task = TaskArguments(task=self.task, options=self.options).load()
        from frostline.training.supervised.task_layers import layers_of

        num_layers = layers_of(task).num_layers
        return FullTraining(num_layers=num_layers, samples=task.full_samples, sample_unit=task.sample_unit)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClimbArguments:
    """Which search, on which ladder that is known before anything is trained."""

    ladder: Annotated[
        str | None,
        typer.Option(
            "--ladder",
            help=f"{', '.join(LADDERS)}, or rungs as LAYERS:SAMPLES,... Default: as of `frostline tune`.",
            rich_help_panel=WHAT,
        ),
    ] = None
    rungs: RungsOption = None
    search: SearchOption = HALVING

    def __post_init__(self) -> None:
        if self.ladder is not None:
            check_known_ladder(self.ladder)
            check_rungs(self.ladder, self.rungs)
        search_named(self.search)


@dataclass(frozen=True, slots=True, kw_only=True)
class CountArguments:
    """How many configurations begin, and how many of them go on."""

    budget: Annotated[
        str | None,
        typer.Option(
            "--budget", help="What the search may cost, in full trainings. Default: 6, unless others are given."
        ),
    ] = None
    configurations: Annotated[
        int | None,
        typer.Option(
            "--configurations", "-n", help="The total number of configurations, over all runs of the study."
        ),
    ] = None
    reduction_factor: Annotated[
        int | None, typer.Option("--reduction-factor", help="One in so many configurations is promoted.")
    ] = None


@grouped
def ladder_command(trained: TrainedArguments, ladder: ClimbArguments, counts: CountArguments) -> None:
    """Show the rungs that a search would climb, and what each costs."""
    from frostline.cli.display import waiting

    with waiting(f"loading {trained.task or trained.study}"):
        full = trained.full_training()
    size = SearchSize(
        search=ladder.search,
        budget=counts.budget,
        configurations=counts.configurations,
        reduction_factor=counts.reduction_factor,
    )
    name = size.usual_ladder if ladder.ladder is None else ladder.ladder
    climbed = ladder_named(name, ladder.rungs, num_layers=full.num_layers, full_samples=full.samples)
    plan = size.climb(climbed)
    typer.echo(ladder_table(climbed, plan, full.sample_unit))
