"""What a search could find if its rungs ranked better: the default beside itself with rungs that know, by replay.

    python benchmarks/what_limits.py [TABLE ...] [--seeds 50] [--json FILE]

Tables, seeds, regret and *cost to match* are those of `contest.py`, and what is to be matched is read from its
results/contest.json. A rung that knows ranks as the full trainings do, in the mean of their seeds, at the cost that it has;
the last rung is as it was recorded.

Where the default's regret comes from at a budget of 6 is told by the best configuration that was tried, and the best that
reached each rung: what the second is worse than the first was lost by the rung below it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from contest import GRID, HERE, MATCHED_BUDGET, Table, recorded, regrets_of, table_of, within_budget
from matching import cost_for

from frostline.research.replay.recorded import RecordedTask
from frostline.text_tables import text_table

CONTEST = HERE / "results" / "contest.json"
KNOWING = {
    "default": (),
    "few layers know": (0,),
    "few layers, and all on a tenth": (0, 1),
    "all rungs": (0, 1, 2),
}
"""Which rungs of the usual ladder rank as full trainings do."""
BUDGET = 6.0
LOST = ("never tried", "few layers", "all on a tenth", "all on three tenths", "in full")
"""What may lose the best configuration, in the order in which a search comes to it."""


def knowing(table: Table, rungs: Sequence[int]) -> RecordedTask:
    """Return the table's task with these rungs of the usual ladder ranking as the full trainings do."""
    landscape = table.measured.landscape
    scores = landscape.scores.copy()
    for rung in rungs:
        cell = table.sieve.rungs[rung]
        scores[:, landscape.layers.index(cell.trainable_layers), landscape.samples.index(cell.samples)] = (
            table.goal.qualities
        )
    return replace(table.measured, landscape=replace(landscape, scores=scores))


def regret_by_budget(table: Table, task: RecordedTask, *, seeds: int) -> list[float]:
    """Return the regret in the mean over the seeds, for each budget of the grid."""
    means = []
    for budget in GRID:
        traces = [within_budget(task, table.sieve, seed, budget) for seed in range(seeds)]
        found = np.array([trace.incumbents()[-1].index for trace in traces])
        means.append(float(regrets_of(table, found).mean()))
    return means


def times_less(table: Table, regrets: Sequence[float]) -> float:
    """Return how many times less is needed for the best rival's regret; as if the largest budget did, if none does."""
    rival = json.loads(CONTEST.read_text())["tables"][table.name]["cost_to_match"]["regret"]
    return MATCHED_BUDGET / (cost_for(rival, GRID, regrets) or GRID[-1])


def found_on(table: Table, *, seeds: int) -> dict[str, float]:
    """Return how many times less each of them needs on a table."""
    return {
        name: times_less(table, regret_by_budget(table, knowing(table, rungs), seeds=seeds))
        for name, rungs in KNOWING.items()
    }


def lost_on(table: Table, *, seeds: int) -> dict[str, float]:
    """Return what each step of the default adds to its regret, and how many configurations it tries, in the mean."""
    rungs = table.sieve.rungs
    found = []
    for seed in range(seeds):
        trace = within_budget(table.measured, table.sieve, seed, BUDGET)
        # Of those who reached it, or one above it.
        reached = [
            {step.index for step in trace.steps if step.fidelity in rungs[rung:]} for rung in range(len(rungs))
        ]
        best = [regrets_of(table, np.array([*indices])).min() for indices in reached]
        answer = regrets_of(table, np.array([trace.incumbents()[-1].index])).item()
        found.append([*np.diff([0.0, *best, answer]), len(reached[0])])
    return dict(zip((*LOST, "tried"), np.mean(found, axis=0).tolist(), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", type=Path)
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    tables: dict[str, dict[str, float]] = {}
    lost: dict[str, dict[str, float]] = {}
    for path in options.tables or recorded():
        table = table_of(path)
        lost[table.name] = lost_on(table, seeds=options.seeds)
        tables[table.name] = found_on(table, seeds=options.seeds)
        print(table.name, {name: round(times, 2) for name, times in tables[table.name].items()}, flush=True)
    means = {name: float(np.exp(np.mean([np.log(each[name]) for each in tables.values()]))) for name in KNOWING}
    record: dict[str, Any] = {
        "seeds": options.seeds,
        "tables": tables,
        "geometric_means": means,
        "budget": BUDGET,
        "lost": lost,
    }
    if options.json is not None:
        options.json.write_text(json.dumps(record, indent=1) + "\n")
    rows = [("times less, where these rank as full trainings do", *tables, "geometric mean")]
    rows += [(name, *(f"{each[name]:.1f}" for each in tables.values()), f"{means[name]:.2f}") for name in KNOWING]
    print(text_table(rows))
    rows = [(f"regret at a budget of {BUDGET:g}, by what lost the best", *LOST, "tried")]
    rows += [
        (name, *(f"{each[step]:.3f}" for step in LOST), f"{each['tried']:.0f}") for name, each in lost.items()
    ]
    print(text_table(rows))


if __name__ == "__main__":
    main()
