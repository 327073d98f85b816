"""The command `frostline audit`: is freezing a valid fidelity for this task, and which ladder follows."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from frostline.audit.audit import audit_of
from frostline.audit.auditor import AuditPlan, audit_task
from frostline.audit.console_tables import correlation_table, ladder_comparison_table
from frostline.audit.csv_table import write_table
from frostline.audit.recommendation import Recommendation, recommend
from frostline.audit.shifts import shift_sentences, shifts, some_budgets
from frostline.audit.stored_landscape import read_aligned, read_landscape
from frostline.cli import display
from frostline.cli.arguments import (
    CacheOption,
    DefaultsOption,
    DeviceOption,
    EngineOption,
    GridPointsOption,
    MemoryOption,
    PrecisionOption,
    RunsOption,
    SamplerOption,
    SeedOption,
    SetOption,
    SpaceOption,
    StorageOption,
    TaskArgument,
    own_configuration,
    parse_numbers,
    reference_of,
    sampling_named,
    with_space,
)
from frostline.errors import OptionError
from frostline.run.options import TrainingOptions
from frostline.run.plan import SearchPlan
from frostline.run.tuning import TaskSearch
from frostline.search.alignment import Alignment
from frostline.store.storage import DEFAULT_STORAGE, MEMORY, Storage, without_password
from frostline.tasks.loading import task_named

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.audit.audit import Audit
    from frostline.audit.landscape import Landscape
    from frostline.audit.shifts import CellShift
    from frostline.protocols import Task


def audit_command(
    task: TaskArgument,
    options: SetOption = None,
    study: Annotated[
        str | None, typer.Option("--study", help="The study's name. Default: the task's and \" audit\".")
    ] = None,
    storage: StorageOption = DEFAULT_STORAGE,
    space: SpaceOption = None,
    configurations: Annotated[
        int, typer.Option("--configurations", "-n", help="How many configurations are trained at every cell.")
    ] = 24,
    layers: Annotated[
        str | None, typer.Option("--layers", help="Numbers of trained layers, such as 1,2,4,8. Default: all.")
    ] = None,
    budgets: Annotated[
        int, typer.Option("--budgets", help="Into how many equal shares the samples are cut.")
    ] = 10,
    horizon: Annotated[
        str,
        typer.Option(
            "--horizon",
            help="full: one training passes through all budgets; rung: each is a training of its own, and dearer.",
        ),
    ] = "full",
    repeats: Annotated[
        int,
        typer.Option("--repeats", help="How many configurations are trained in full again under another seed."),
    ] = 8,
    repeat_seeds: Annotated[int, typer.Option("--repeat-seeds", help="Under how many other seeds.")] = 1,
    table: Annotated[
        Path | None, typer.Option("--table", help="Write all scores and costs to this CSV file (.csv or .csv.gz).")
    ] = None,
    align: Annotated[
        str | None,
        typer.Option(
            "--align",
            help="Factors where few layers are trained, such as '1:learning_rate=10;2:head.learning_rate=3', or ranges to "
            "learn from, '2:head.learning_rate=0.3..30': each configuration gets a factor. The configurations are those of "
            "the audit --of, and only what the factors change is trained.",
        ),
    ] = None,
    of: Annotated[
        str | None,
        typer.Option("--of", help="With --align: the audit's study. Default: the task's and \" audit\"."),
    ] = None,
    sampler: SamplerOption = "random",
    grid_points: GridPointsOption = 3,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "float32",
    engine: EngineOption = "auto",
    memory: MemoryOption = "auto",
    prefix_cache: CacheOption = "auto",
    runs: RunsOption = Path("frostline-runs"),
    defaults: DefaultsOption = True,
) -> None:
    """Measure whether few layers and few samples rank configurations as full training does, and recommend a ladder."""
    if table is not None and (table.is_dir() or not table.name.endswith((".csv", ".csv.gz"))):
        raise OptionError(f"--table {table}: name a file that ends in .csv or .csv.gz.")
    loaded = with_space(task_named(task, options), space)
    alignment = Alignment.parse(align or "")
    base = None if alignment.is_identity else of or f"{loaded.name} audit"
    plan = AuditPlan.of(
        loaded,
        configurations=configurations,
        layers=parse_numbers("--layers", layers) or tuple(alignment.factors) or None,
        budgets=budgets,
        horizon=horizon,
        repeats=repeats,
        repeat_seeds=repeat_seeds,
        base=base,
    )
    name = study or (f"{loaded.name} audit" if base is None else f"{base}, {alignment}")
    console = Console()
    typer.echo(f"study {name!r} in {without_password(storage)}")
    landscape = run_audit(
        console,
        loaded,
        plan,
        study=name,
        storage=storage,
        training=TaskSearch(
            options=TrainingOptions(
                device=device,
                precision=precision,
                engine=engine,
                memory=memory,
                prefix_cache=prefix_cache,
                runs=runs,
            ),
            reference=reference_of(task, options, precision),
            alignment=alignment,
        ),
        search=SearchPlan(
            sampling=sampling_named(sampler, loaded.space, grid_points),
            initial=own_configuration(loaded) if defaults and sampler != "grid" else (),
            seed=seed,
        ),
    )
    if table is not None:
        write_table(landscape, table)
        typer.echo(f"all scores and costs: {table}")
    if base is not None and alignment.draws:
        _show_learned(storage, base)
        return
    # For the default search of `frostline tune`.
    _show(console, audit_of(landscape), recommend(landscape))
    if alignment.is_identity:
        aligned = () if storage == MEMORY else read_aligned(storage, name)
        _show_shifts(landscape, shifts(landscape, aligned, samples=some_budgets(landscape)))
    if storage != MEMORY:
        place = "" if storage == DEFAULT_STORAGE else f" --storage {without_password(storage)}"
        words = f"{reference_of(task, options, precision)} --ladder {shlex.quote(f'audit:{name}')}{place}"
        typer.echo(f"\nsearch with the recommended ladder: frostline tune {words}")


def run_audit(
    console: Console,
    task: Task,
    plan: AuditPlan,
    *,
    study: str,
    storage: str | Storage,
    training: TaskSearch,
    search: SearchPlan,
) -> Landscape:
    """Make an audit, or go on with it, and show how far it is."""
    for line in _plan_lines(plan, task.sample_unit):
        typer.echo(line)
    typer.echo("")
    rungs = plan.grid.rungs
    shown = display.SearchDisplay(
        console, rungs=rungs, expected=(plan.configurations,) * len(rungs), sample_unit=task.sample_unit
    )
    with shown:
        return audit_task(
            task,
            plan,
            study=study,
            plan=search,
            training=training,
            storage=storage,
            observer=shown,
        )


def _plan_lines(plan: AuditPlan, sample_unit: str) -> list[str]:
    layers = ", ".join(map(str, plan.layers))
    budgets = f"{len(plan.samples)} budgets of up to {plan.samples[-1]:,} {sample_unit}"
    lines = [f"{plan.configurations} configurations × {layers} layers × {budgets}: {plan.trainings()} trainings."]
    return [*lines, f"One by one its cells would cost as much as {plan.one_by_one():,.0f} full trainings."]


def _show_learned(storage: str, study: str) -> None:
    """Say what an audit tells of shifts, with those that trained its configurations otherwise."""
    typer.echo(f"\neach configuration had factors of its own; what the audit {study!r} tells with them:")
    landscape = read_landscape(storage, study)
    _show_shifts(landscape, shifts(landscape, read_aligned(storage, study), samples=some_budgets(landscape)))


def _show_shifts(landscape: Landscape, found: Sequence[CellShift]) -> None:
    """Say where few layers would rank better at other values, and what to do about it."""
    sentences = shift_sentences(found, landscape)
    if not sentences:
        typer.echo("\nNo cell would rank better at other values of a hyperparameter, as far as these scores tell.")
        return
    typer.echo("")
    for sentence in sentences:
        typer.echo(f"- {sentence}")


def _show(console: Console, audit: Audit, recommendation: Recommendation) -> None:
    landscape = audit.landscape
    number = landscape.num_configurations
    typer.echo(f"\nrank correlation (Spearman) with full fidelity, {number} configurations:")
    console.print(correlation_table(audit.agreement, landscape))
    if audit.warnings:
        typer.echo("")
    for warning in audit.warnings:
        typer.echo(f"- {warning}")
    chosen = recommendation.chosen
    typer.echo(
        f"\nladders for {chosen.configurations} configurations, replayed on these scores; cost in full trainings, chance of "
        f"ending within {recommendation.tolerance:.3g} of the best:"
    )
    console.print(ladder_comparison_table(recommendation))
    if not recommendation.reaches:
        typer.echo("No ladder is sure enough here: the recommended one is the surest. Audit more configurations.")
