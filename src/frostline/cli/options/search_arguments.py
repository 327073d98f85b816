"""What `frostline tune` takes about a search, beside its ladder and what it draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from frostline.cli.options.grouping import HOW, WHAT
from frostline.cli.options.naming import AUDIT, AUTO, parse_alignment
from frostline.cli.options.search_size import SearchSize
from frostline.inputs.model_costs import check_model_cost
from frostline.run.execution.options import OFF, TrainingOptions


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
    """In total, over all runs of the study. Default beside an audit, another search than halving or --align auto: 27."""
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            help="What of the trained model counts beside the score: bytes, flops or seconds.",
            rich_help_panel=WHAT,
            hidden=True,
        ),
    ] = None
    """None: what the study was begun with, and of a new one nothing."""
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
            help="rung: the schedule ends with each rung; full: it is cut short. Default: full under a budget, else rung, "
            "or the audit's.",
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
        # For its check alone.
        TrainingOptions(horizon=self.horizon)
        if self.against is not None:
            check_model_cost("--against", self.against)
        if self.align not in (OFF, AUTO) and not self.align.startswith(AUDIT):
            parse_alignment(self.align)

    def size(self, name: str) -> SearchSize:
        """Return how much of the search called ``name`` is searched."""
        return SearchSize(
            search=name,
            budget=self.budget,
            configurations=self.configurations,
            reduction_factor=self.reduction_factor,
            learns_alignment=self.align == AUTO,
        )
