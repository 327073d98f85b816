"""An audit and its recommended ladder as tables for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from frostline.audit.agreement import Agreement
    from frostline.audit.landscape import Landscape
    from frostline.audit.recommendation import LadderOutcome, Recommendation

# More budgets do not fit beside each other.
_MOST_COLUMNS = 10


def correlation_table(agreement: Agreement, landscape: Landscape) -> Table:
    """Return Spearman's correlation with full fidelity: a row for each number of layers, a column for each budget.

    The last column is what the largest budget costs there, as a share of a full training.
    """
    full = landscape.samples[-1]
    step = -(-len(landscape.samples) // _MOST_COLUMNS)
    shown = range(len(landscape.samples) - 1, -1, -step)[::-1]
    shares = [f"{landscape.samples[s] / full:.0%}" for s in shown]
    table = Table("layers", *shares, "cost", box=None)
    for column in table.columns:
        column.justify = "right"
    seconds = landscape.seconds.mean(axis=0)[:, -1]
    for z, layers in enumerate(landscape.layers):
        cells = [f"{agreement.spearman.value[z, s]:.2f}" for s in shown]
        table.add_row(f"{layers}", *cells, f"{seconds[z] / seconds[-1]:.2f}")
    return table


def ladder_comparison_table(recommendation: Recommendation) -> Table:
    """Return the recommended ladder and the usual ones: rungs, cost in full trainings, chance of as good a choice."""
    table = Table("ladder", "layers:samples", "configurations", "cost", "chance", box=None)
    for column in table.columns[3:]:
        column.justify = "right"
    for outcome in (recommendation.chosen, *recommendation.compared):
        quotas = ", ".join(map(str, outcome.quotas))
        chance = f"{outcome.chance:.2f} ± {outcome.error:.2f}"
        table.add_row(outcome.name, rungs_text(outcome), quotas, f"{outcome.full_trainings:.1f}", chance)
    number = max(1, round(recommendation.chosen.full_trainings))
    chance = f"{recommendation.random_chance:.2f}"
    table.add_row("random", "full trainings", f"{number}", f"{number:.1f}", chance)
    return table


def rungs_text(outcome: LadderOutcome) -> str:
    """Return the rungs of a ladder in one line, such as "2:20%, 8:100%"."""
    full = outcome.ladder.full_samples
    return ", ".join(f"{rung.trainable_layers}:{rung.samples / full:.0%}" for rung in outcome.ladder.rungs)
