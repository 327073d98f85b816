"""An audit: run, shown on its way, and what is said of it afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.audit.audit import audit_of
from frostline.audit.auditor import AuditPlan, audit_task
from frostline.audit.console_tables import correlation_table, ladder_comparison_table
from frostline.audit.csv_table import write_table
from frostline.audit.recommendation import Recommendation, recommend
from frostline.audit.shifts import shift_sentences, shifts, some_budgets
from frostline.audit.stored_landscape import read_aligned, read_landscape
from frostline.cli.display import echo
from frostline.protocols import metric_of
from frostline.run.execution.local import local_executor
from frostline.store.backends.storage import MEMORY
from frostline.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import Console

    from frostline.audit.audit import Audit
    from frostline.audit.landscape import Landscape
    from frostline.audit.shifts import CellShift
    from frostline.protocols import Task
    from frostline.run.execution.workload import ExecutorFactory
    from frostline.run.plan import SearchPlan
    from frostline.run.task_search import TaskSearch
    from frostline.run.view.search_view import SearchView
    from frostline.store.backends.storage import Storage


def run_audit(
    view: SearchView,
    task: Task,
    plan: AuditPlan,
    *,
    study: str,
    storage: str | Storage,
    training: TaskSearch,
    search: SearchPlan,
    executor: ExecutorFactory = local_executor,
) -> Landscape:
    """Make an audit, or go on with it, and show how far it is."""
    for line in _plan_lines(plan, task.sample_unit):
        echo(line)
    echo("")
    title = f"preparing the first trainings of {task.name}"
    view.prepare(title, sample_unit=task.sample_unit, metric=metric_of(task))
    landscape = audit_task(
        task,
        plan,
        study=study,
        plan=search,
        training=training,
        storage=storage,
        executor=executor,
        observer=view,
    )
    view.prepare("reckoning what the audit tells")
    return landscape


def _plan_lines(plan: AuditPlan, sample_unit: str) -> list[str]:
    layers = ", ".join(map(str, plan.layers))
    budgets = f"{len(plan.samples)} budgets of up to {plan.samples[-1]:,} {sample_unit}"
    cells = f"{counted(plan.configurations, 'configuration')} × {layers} layers × {budgets}"
    lines = [f"{cells}: {counted(plan.trainings(), 'training')}."]
    return [*lines, f"One by one its cells would cost as much as {plan.one_by_one():,.0f} full trainings."]


def save_table(landscape: Landscape, path: Path) -> None:
    """Write all scores and costs to a CSV file, and say so."""
    write_table(landscape, path)
    echo(f"all scores and costs: {path}")


def show_findings(console: Console, landscape: Landscape, storage: str, study: str) -> None:
    """Say what an audit tells: how every cell ranks, the ladder for the default search, and shifts unless it is aligned."""
    _show_ranking(console, audit_of(landscape), recommend(landscape))
    if landscape.alignment.is_identity:
        aligned = () if storage == MEMORY else read_aligned(storage, study)
        _show_shifts(landscape, shifts(landscape, aligned, samples=some_budgets(landscape)))


def show_learned(storage: str, study: str) -> None:
    """Say what an audit tells of shifts, with those that trained its configurations otherwise."""
    echo(f"\neach configuration had factors of its own; what the audit {study!r} tells with them:")
    landscape = read_landscape(storage, study)
    _show_shifts(landscape, shifts(landscape, read_aligned(storage, study), samples=some_budgets(landscape)))


def _show_shifts(landscape: Landscape, found: Sequence[CellShift]) -> None:
    """Say where few layers would rank better at other values, and what to do about it."""
    sentences = shift_sentences(found, landscape)
    if not sentences:
        echo("\nNo cell would rank better at other values of a hyperparameter, as far as these scores tell.")
        return
    echo("")
    for sentence in sentences:
        echo(f"- {sentence}")


def _show_ranking(console: Console, audit: Audit, recommendation: Recommendation) -> None:
    """Say how well every cell ranks, and which ladder follows."""
    landscape = audit.landscape
    number = landscape.num_configurations
    echo(f"\nrank correlation (Spearman) with full fidelity, {number} configurations:")
    console.print(correlation_table(audit.agreement, landscape))
    if audit.warnings:
        echo("")
    for warning in audit.warnings:
        echo(f"- {warning}")
    chosen = recommendation.chosen
    echo(
        f"\nladders for {chosen.configurations} configurations, replayed on these scores; cost in full trainings, chance of "
        f"ending within {recommendation.tolerance:.3g} of the best:"
    )
    console.print(ladder_comparison_table(recommendation))
    if not recommendation.reaches:
        echo("No ladder is sure enough here: the recommended one is the surest. Audit more configurations.")
