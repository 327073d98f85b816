"""Which ladder a budget is best climbed on: ladders of few layers and of all compared by replay on every recorded table.

    python benchmarks/ladders.py [--tables NAME,...] [--budgets 3,4,6,8,12] [--seeds 50] [--json FILE]

All are halving within a budget (``BudgetedHalving``) with its usual shares. Tables, seeds and regret are those of
`contest.py`, those of fine-tunings too, and rungs are scored by measured statistics (`measured_scores.py`); a regret above
3 counts as 3. *Against all layers*: the geometric mean, over tables and budgets, of the regret over that of the first
ladder (a hundredth is added to both), and the table where it is largest. *Chosen without the table*: for each table the
ladder whose mean is least on the others, and what it does on that one. With ``--tables`` a part is measured; the file keeps
what others have measured before.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from contest import Table, recorded, regrets_of, table_of, within_budget

from frostline.search.ladder import Ladder
from frostline.text_tables import text_table

ALL, THIRD, SEVENTH = 1.0, 0.34, 0.15

LADDERS: dict[str, tuple[tuple[float, float], ...]] = {
    "all on 10, 20, 40, 100 %": ((ALL, 0.1), (ALL, 0.2), (ALL, 0.4), (ALL, 1)),
    "all on 10, 30, 100 %": ((ALL, 0.1), (ALL, 0.3), (ALL, 1)),
    "a third on 10, 20, 40 %, all on 40, 100 %": (
        (THIRD, 0.1),
        (THIRD, 0.2),
        (THIRD, 0.4),
        (ALL, 0.4),
        (ALL, 1),
    ),
    "a third on 10 %, all on 10, 30, 100 %": ((THIRD, 0.1), (ALL, 0.1), (ALL, 0.3), (ALL, 1)),
    "a seventh on 10 %, all on 10, 30, 100 %": ((SEVENTH, 0.1), (ALL, 0.1), (ALL, 0.3), (ALL, 1)),
    "a seventh on 10 %, all on 10, 40, 100 %": ((SEVENTH, 0.1), (ALL, 0.1), (ALL, 0.4), (ALL, 1)),
    "a seventh on 10 %, all on 10, 20, 40, 100 %": (
        (SEVENTH, 0.1),
        (ALL, 0.1),
        (ALL, 0.2),
        (ALL, 0.4),
        (ALL, 1),
    ),
    "a seventh on 10, 20 %, all on 20, 40, 100 %": (
        (SEVENTH, 0.1),
        (SEVENTH, 0.2),
        (ALL, 0.2),
        (ALL, 0.4),
        (ALL, 1),
    ),
    "a seventh on 10 %, all on 30, 100 %": ((SEVENTH, 0.1), (ALL, 0.3), (ALL, 1)),
}
FIRST = next(iter(LADDERS))
MOST, ADDED = 3.0, 0.01

Results = dict[str, dict[str, dict[str, float]]]
"""Mean regrets by table, ladder and budget."""


def ladder_of(table: Table, rungs: tuple[tuple[float, float], ...]) -> Ladder:
    """Return the ladder of these shares of layers and samples, on the cells of the table that are nearest."""
    full = table.task.full
    steps = [
        (max(1, round(layers * full.trainable_layers)), max(1, round(samples * full.samples)))
        for layers, samples in rungs
    ]
    return table.ladder(Ladder.explicit(steps, num_layers=full.trainable_layers, full_samples=full.samples))


def mean_regret(table: Table, ladder: Ladder, *, budget: float, seeds: int) -> float:
    """Return the regret in the mean over the seeds."""
    traces = [within_budget(table.measured, ladder, seed, budget) for seed in range(seeds)]
    found = np.array([trace.incumbents()[-1].index for trace in traces])
    return float(np.minimum(regrets_of(table, found), MOST).mean())


def against_the_first(results: Results, ladder: str, tables: list[str]) -> dict[str, float]:
    """Return for each table the geometric mean over the budgets of the regret over that of the first ladder."""
    found = {}
    for table in tables:
        ours, first = (np.array([*results[table][name].values()]) for name in (ladder, FIRST))
        found[table] = float(np.exp(np.log((ours + ADDED) / (first + ADDED)).mean()))
    return found


def summary(results: Results) -> dict[str, Any]:
    """Return of every ladder its mean regrets and how it compares, and what is chosen without each table."""
    tables = [*results]
    budgets = [*results[tables[0]][FIRST]]
    rows = []
    for name in LADDERS:
        ratios = against_the_first(results, name, tables)
        worst = max(ratios, key=lambda table: ratios[table])
        means = {budget: float(np.mean([results[table][name][budget] for table in tables])) for budget in budgets}
        rows.append(
            {
                "ladder": name,
                "means": means,
                "ratio": float(np.exp(np.mean(np.log([*ratios.values()])))),
                "worst": {"table": worst, "ratio": ratios[worst]},
            }
        )
    chosen = {}
    for table in tables:
        others = [other for other in tables if other != table]
        best = min(
            LADDERS,
            key=lambda name: float(np.mean(np.log([*against_the_first(results, name, others).values()]))),
        )
        chosen[table] = {"ladder": best, "ratio": against_the_first(results, best, [table])[table]}
    return {"ladders": rows, "chosen_without": chosen}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables")
    parser.add_argument("--budgets", default="3,4,6,8,12")
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    wanted = None if options.tables is None else options.tables.split(",")
    results: Results = {}
    if options.json is not None and options.json.exists():
        results = json.loads(options.json.read_text())["regrets"]
    for path in recorded():
        table = table_of(path)
        if wanted is not None and table.name not in wanted:
            continue
        results[table.name] = {}
        for name, rungs in LADDERS.items():
            ladder = ladder_of(table, rungs)
            results[table.name][name] = {
                budget: mean_regret(table, ladder, budget=float(budget), seeds=options.seeds)
                for budget in options.budgets.split(",")
            }
            shown = " ".join(f"{regret:.3f}" for regret in results[table.name][name].values())
            print(f"{table.name:18} {name:45} {shown}", flush=True)
        found = summary(dict(sorted(results.items())))
        if options.json is not None:
            record = {"seeds": options.seeds, **found, "regrets": dict(sorted(results.items()))}
            options.json.write_text(json.dumps(record, indent=1) + "\n")
    rows = [("ladder", *options.budgets.split(","), "against all layers", "worst table")]
    for row in found["ladders"]:
        means = [f"{mean:.3f}" for mean in row["means"].values()]
        rows.append(
            (row["ladder"], *means, f"{row['ratio']:.2f}", f"{row['worst']['table']} {row['worst']['ratio']:.2f}")
        )
    print(text_table(rows))
    for table, chosen in found["chosen_without"].items():
        print(f"chosen without {table}: {chosen['ladder']}, {chosen['ratio']:.2f} of all layers there")


if __name__ == "__main__":
    main()
