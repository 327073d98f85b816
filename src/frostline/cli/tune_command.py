"""The command `frostline tune`: search for the best configuration, on a ladder by name, by hand or by an audit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import typer

from frostline.cli.arguments import (
    LadderArguments,
    PlaceArguments,
    SamplingArguments,
    TaskArguments,
    TrainingArguments,
)
from frostline.cli.executor_arguments import ExecutorArguments
from frostline.cli.grouping import HOW, WHAT, grouped
from frostline.cli.naming import AUDIT, AUTO, ladder_named, parse_alignment
from frostline.cli.search_size import SearchSize, ladder_table
from frostline.inputs.credentials import without_password
from frostline.run.options import OFF


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchArguments:
    """What is said of a search beside its ladder; None: what the default or an audit says."""

    budget: Annotated[
        str | None,
        typer.Option("--budget", help="Full trainings, or as 2h. Default: 6.", rich_help_panel=WHAT),
    ] = None
    """What the search may cost over all runs of the study. Default: 6, unless other options say how much is searched."""
    configurations: Annotated[
        int | None,
        typer.Option("--configurations", "-n", help="So many instead, whatever they cost.", rich_help_panel=WHAT),
    ] = None
    """In total, over all runs of the study. Default beside an audit or another search than halving: 27."""
    reduction_factor: Annotated[
        int | None,
        typer.Option(
            "--reduction-factor",
            help="One in so many configurations is promoted. Default: 3, or what an audit recommends.",
            rich_help_panel=WHAT,
            hidden=True,
        ),
    ] = None
    horizon: Annotated[
        str | None,
        typer.Option(
            "--horizon",
            help="rung: the schedule ends with each rung; full: it is cut short. Default: rung, or the audit's.",
            rich_help_panel=HOW,
            hidden=True,
        ),
    ] = None
    align: Annotated[
        str,
        typer.Option(
            "--align",
            help="off; auto: learn on the way how rungs of few layers are to be read; audit:STUDY: have them train what an "
            "audit found; or factors for that, such as '1:learning_rate=10;2:learning_rate=3'.",
            rich_help_panel=WHAT,
            hidden=True,
        ),
    ] = OFF
    compare: Annotated[
        bool,
        typer.Option(
            "--compare",
            help="Afterwards train the task's own configuration in full and compare.",
            rich_help_panel=HOW,
            hidden=True,
        ),
    ] = False

    def __post_init__(self) -> None:
        if self.align not in (OFF, AUTO) and not self.align.startswith(AUDIT):
            parse_alignment(self.align)

    def size(self, name: str) -> SearchSize:
        """Return how much of the search called ``name`` is searched."""
        return SearchSize(
            search=name,
            budget=self.budget,
            configurations=self.configurations,
            reduction_factor=self.reduction_factor,
        )


@grouped
def tune_command(
    task: TaskArguments,
    search: SearchArguments,
    ladder: LadderArguments,
    sampling: SamplingArguments,
    training: TrainingArguments,
    executor: ExecutorArguments,
    where: PlaceArguments,
) -> None:
    """Search for the best configuration. Stop at any time: the same command goes on."""
    size = search.size(ladder.search)
    options = training.options()
    if search.horizon is not None:
        options = replace(options, horizon=search.horizon)
    from rich.console import Console

    from frostline.cli.display import command_view, echo

    console = Console()
    with command_view(console, f"loading {task.task}") as view:
        loaded = sampling.in_space(task.load())
        from frostline.cli import planned_search, shown_search
        from frostline.store.begun import begun_ladder
        from frostline.training.task_layers import layers_of

        place = planned_search.Place(
            name=where.study or loaded.name,
            storage=where.storage,
            seed=where.seed,
            reference=task.reference(training.precision),
            options=options,
            executor=executor.factory(options.workers),
            tracker=executor.tracker(where.study or loaded.name, options.runs),
        )
        initial = sampling.initial(loaded)
        requested = planned_search.RequestedSearch(size=size, horizon=search.horizon)
        audited = None
        name = size.usual_ladder if ladder.ladder is None else ladder.ladder
        if name == AUTO or name.startswith(AUDIT):
            audited = planned_search.audited_search(view, console, loaded, name, place, requested, initial)
            planned = requested.on_audit(audited, skips=name == AUTO)
            place = replace(place, options=replace(place.options, horizon=audited.horizon))
        else:
            num_layers = layers_of(loaded).num_layers
            climbed = ladder_named(name, ladder.rungs, num_layers=num_layers, full_samples=loaded.full_samples)
            if (ladder.ladder, ladder.rungs) == (None, None):
                climbed = begun_ladder(place.storage, place.name, climbed)
            planned = requested.on(climbed, initial=initial, most=sampling.sampling(loaded).num_points)
        planned = planned_search.aligned(loaded, planned, search.align, place)
        echo(ladder_table(planned.ladder, planned.plan, loaded.sample_unit))
        echo(f"study {place.name!r} in {without_password(where.storage)}\n")
        result = shown_search.run_search(view, loaded, planned, place, sampling.sampling(loaded))
    shown_search.show_search(console, planned.plan, result, audited)
    if search.compare and result.own is None:
        with command_view(console, "training the task's own configuration in full"):
            lines = shown_search.comparison(loaded, result, place)
        typer.echo("\n".join(lines))
