"""The command `frostline audit`: is freezing a valid fidelity for this task, and which ladder follows."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from frostline.atomic import check_writable
from frostline.cli.options.arguments import PlaceArguments, SamplingArguments, TaskArguments
from frostline.cli.options.grouping import HOW, WHAT, WHERE, grouped
from frostline.cli.options.naming import AUDIT, parse_alignment, parse_numbers
from frostline.cli.options.training_arguments import TrainingArguments
from frostline.errors import OptionError
from frostline.inputs.credentials import without_password
from frostline.run.installed_programs import frostline_program
from frostline.search.alignment import IDENTITY, Alignment
from frostline.store.backends.storage import MEMORY

if TYPE_CHECKING:
    from frostline.audit.auditor import AuditPlan
    from frostline.protocols import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditArguments:
    """Which cells are trained, by how many configurations, and under which alignment."""

    configurations: Annotated[
        int,
        typer.Option("--configurations", "-n", help="How many at every cell.", rich_help_panel=WHAT),
    ] = 24
    layers: Annotated[
        str | None,
        typer.Option("--layers", help="Such as 1,2,4,8. Default: all.", rich_help_panel=WHAT),
    ] = None
    budgets: Annotated[int, typer.Option("--budgets", help="Shares of the samples.", rich_help_panel=WHAT)] = 10
    horizon: Annotated[
        str,
        typer.Option(
            "--horizon",
            help="full: one training passes through all budgets; rung: each is a training of its own, and dearer.",
            rich_help_panel=HOW,
            hidden=True,
        ),
    ] = "full"
    repeats: Annotated[
        int,
        typer.Option(
            "--repeats",
            help="How many configurations are trained in full again under another seed.",
            rich_help_panel=WHAT,
            hidden=True,
        ),
    ] = 8
    repeat_seeds: Annotated[
        int, typer.Option("--repeat-seeds", help="Under how many other seeds.", rich_help_panel=WHAT, hidden=True)
    ] = 1
    table: Annotated[
        Path | None,
        typer.Option("--table", help="Write all scores to this .csv or .csv.gz.", rich_help_panel=WHERE),
    ] = None
    align: Annotated[
        str | None,
        typer.Option(
            "--align",
            help="Factors where few layers are trained, such as '1:learning_rate=10;2:head.learning_rate=3', or ranges to "
            "learn from, '2:head.learning_rate=0.3..30': each configuration gets a factor. The configurations are those of "
            "the audit --of, and only what the factors change is trained.",
            rich_help_panel=WHAT,
            hidden=True,
        ),
    ] = None
    of: Annotated[
        str | None,
        typer.Option(
            "--of",
            help="With --align: the audit's study. Default: the task's and \" audit\".",
            rich_help_panel=WHAT,
            hidden=True,
        ),
    ] = None

    def __post_init__(self) -> None:
        if self.table is not None and (self.table.is_dir() or not self.table.name.endswith((".csv", ".csv.gz"))):
            raise OptionError(f"--table {self.table}: name a file that ends in .csv or .csv.gz.")
        if self.table is not None:
            check_writable(self.table)
        parse_numbers("--layers", self.layers)
        if self.of is not None and self.align is None:
            raise OptionError(
                f"--of {self.of!r} goes with --align, which trains that audit's configurations otherwise: leave it out, or "
                f"give factors."
            )

    @property
    def alignment(self) -> Alignment:
        """What is trained in place of the configurations where few layers are."""
        return IDENTITY if self.align is None else parse_alignment(self.align)

    def plan(self, task: Task) -> AuditPlan:
        """Return what is trained for ``task``."""
        from frostline.audit.auditor import AuditPlan

        return AuditPlan.of(
            task,
            configurations=self.configurations,
            layers=parse_numbers("--layers", self.layers) or tuple(self.alignment.factors) or None,
            budgets=self.budgets,
            horizon=self.horizon,
            repeats=self.repeats,
            repeat_seeds=self.repeat_seeds,
            base=None if self.alignment.is_identity else self.of or f"{task.name} audit",
        )


@grouped
def audit_command(
    task: TaskArguments,
    given: AuditArguments,
    sampling: SamplingArguments,
    training: TrainingArguments,
    where: PlaceArguments,
) -> None:
    """Measure whether few layers and samples rank configurations, and recommend a ladder."""
    alignment = given.alignment
    options, space_text = training.options(training.precision), sampling.space_text
    from rich.console import Console

    from frostline.cli.display import command_view, echo

    console = Console()
    with command_view(console, f"loading {task.task}") as view:
        loaded = sampling.in_space(task.load(), space_text)
        from frostline.cli import shown_audit
        from frostline.run.plan import SearchPlan
        from frostline.run.task_search import TaskSearch

        plan = given.plan(loaded)
        name = where.study or (f"{loaded.name} audit" if plan.base is None else f"{plan.base}, {alignment}")
        echo(f"study {name!r} in {without_password(where.storage)}")
        reference = task.reference(training.precision)
        landscape = shown_audit.run_audit(
            view,
            loaded,
            plan,
            study=name,
            storage=where.storage,
            training=TaskSearch(options=options, reference=reference, alignment=alignment),
            search=SearchPlan(
                sampling=sampling.sampling(loaded), initial=sampling.initial(loaded), seed=where.seed
            ),
        )
        if given.table is not None:
            shown_audit.save_table(landscape, given.table)
        if plan.base is not None and alignment.draws:
            shown_audit.show_learned(where.storage, plan.base)
            return
        shown_audit.show_findings(console, landscape, where.storage, name)
    if where.storage != MEMORY:
        words = shlex.join(["--ladder", f"{AUDIT}{name}", *where.words, *sampling.space_words])
        typer.echo(f"\nsearch with the recommended ladder: {frostline_program()} tune {reference} {words}")
