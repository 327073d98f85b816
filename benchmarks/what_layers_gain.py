"""What few layers gain a search: frostline's default beside the same search on a ladder of all layers, by replay.

    python benchmarks/what_layers_gain.py [TABLE ...] [--budgets 3,4,6,8,12] [--seeds 100] [--flops] [--json FILE]

Both are halving within a budget (``BudgetedHalving``), with all layers on rungs of 10, 30 and 100 % of the samples; the
default asks few layers first. Tables, seeds and regret are those of `contest.py`; tables with adapters are given with
``--flops``. Intervals are 95 % bootstrap intervals over seeds, paired.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from contest import BOOTSTRAPS, Array, Table, default, recorded, regrets_of, table_of, within_budget

from frostline.research.replay.trace import Trace
from frostline.text_tables import text_table

SHARES = (0.1, 0.3, 1.0)


def all_layers(table: Table, seed: int, budget: float) -> Trace:
    return within_budget(table.measured, table.samples_only(SHARES), seed, budget)


def regrets(table: Table, run: Callable[[Table, int, float], Trace], *, budget: float, seeds: int) -> Array:
    """Return the regret of each seed."""
    found = [run(table, seed, budget).incumbents()[-1].index for seed in range(seeds)]
    return regrets_of(table, np.array(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", type=Path)
    parser.add_argument("--budgets", default="3,4,6,8,12")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument(
        "--flops", action="store_true", help="Trainings cost their FLOPs instead of their seconds."
    )
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    random = np.random.default_rng(0)
    drawn = random.integers(arguments.seeds, size=(BOOTSTRAPS, arguments.seeds))
    rows = [("table", "budget", "default", "all layers", "default less all layers")]
    record = []
    for path in arguments.tables or recorded():
        table = table_of(path, by_flops=arguments.flops)
        for budget in map(float, arguments.budgets.split(",")):
            ours, others = (
                regrets(table, run, budget=budget, seeds=arguments.seeds) for run in (default, all_layers)
            )
            means = (ours - others)[drawn].mean(axis=1)
            low, high = np.quantile(means, (0.025, 0.975))
            record.append(
                {
                    "table": table.name,
                    "budget": budget,
                    "default": float(ours.mean()),
                    "all_layers": float(others.mean()),
                    "difference": {"value": float((ours - others).mean()), "low": float(low), "high": float(high)},
                }
            )
            rows.append(
                (
                    table.name,
                    f"{budget:g}",
                    f"{ours.mean():.3f}",
                    f"{others.mean():.3f}",
                    f"{(ours - others).mean():+.3f} ({low:+.3f} to {high:+.3f})",
                )
            )
            print("\t".join(rows[-1]), flush=True)
    print(text_table(rows))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"seeds": arguments.seeds, "rows": record}, indent=1) + "\n")


if __name__ == "__main__":
    main()
