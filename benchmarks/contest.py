"""What each search finds for a budget: frostline's default against what people use, by replay on recorded tables.

    python benchmarks/contest.py [TABLE ...] [--budgets 3,4,6,8,12,24] [--seeds 100] [--without METHOD] [--own] [--flops]
        [--json FILE]

The tables are those of `frostline audit --table`; by default all of benchmarks/tables, those of fine-tunings too, that were
recorded without alignment and adapters and, of fine-tunings, from a checkpoint.
Budgets are in full trainings, of the mean seconds that the table has for one. Every seed puts the configurations in another
order, the same for all methods. *Regret* is the full score of the answer, in the mean over the recorded seeds, less the
table's best, in units of the spread (median less best); a method that has trained nothing in full yet answers with the first
configuration of its order. *Ends well*: within two standard deviations of seed noise. Intervals are 95 % bootstrap intervals
over seeds. *Cost to match*: the best rival's regret at a budget of 12, and how many times less the default needs for it.

With ``--flops`` a training costs its FLOPs, by itself, instead of its seconds: for tables that were recorded while the
machine did other things at one time and not at another. Validation is then free, and nothing is shared.

Where layers are normalised over batches, rungs below the full training are scored in the default's search by statistics
that are measured where a training stands, as frostline does it (`measured_scores.py` recorded that), unless it is
"default, running statistics", and by running ones in all others. Nobody has a configuration of one's own, unless
``--own`` is given: then all searches begin with the task's, the first of the table, and the default trains it in full
whatever its rungs would say of it. Halving over samples is sized to the budget; the others spend what they are given and
answer when it is over.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from matching import cost_for
from numpy.typing import NDArray

from frostline.audit.csv_table import read_table
from frostline.audit.landscape import Landscape
from frostline.audit.noise import seed_noise
from frostline.research.replay.optuna_hyperband import replay_optuna
from frostline.research.replay.recorded import Goal, RecordedTask, goal_of, with_typical_seconds
from frostline.research.replay.simulation import replay
from frostline.research.replay.trace import Trace
from frostline.search.algorithms.halving import AsynchronousHalving, SuccessiveHalving
from frostline.search.algorithms.hyperband import Hyperband
from frostline.search.algorithms.sweep import FullFidelity
from frostline.search.budgets.budget import Budget
from frostline.search.budgets.budgeted import BudgetedHalving
from frostline.search.ladder import Ladder
from frostline.search.proposals.sampling import GP, TPE, Sampling
from frostline.text_tables import text_table

HERE = Path(__file__).parent
MEASURED = HERE / "tables" / "measured"
DEFAULT, RUNNING = "default", "default, running statistics"
OURS = (DEFAULT, RUNNING)
# An audit begins with the task's own configuration, unless it is told not to.
OWN = 0
MATCHED_BUDGET = 12.0
# Budgets at which the default's regret is known when a rival's is to be matched.
GRID = (2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 12.0, 16.0, 24.0)
THIRDS = (0.1, 0.3, 1.0)
FINE = (0.1, 0.2, 0.3, 0.5, 1.0)
BOOTSTRAPS = 2000

LARGEST_BUDGET = 24.0

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A way to search: what it does on a table, in the order of a seed, for a budget in full trainings."""

    run: Callable[[Table, int, float], Trace]
    is_sized: bool = False
    """Whether it is another search for another budget; the others go on until theirs is over."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """A recorded table, and what is good in it."""

    name: str
    task: RecordedTask
    measured: RecordedTask
    """With scores by measured statistics, where they were recorded."""
    goal: Goal
    tolerance: float
    traces: dict[tuple[str, int], Trace] = field(default_factory=dict)
    """Of the methods that are the same search for every budget, by name and seed."""

    @property
    def spread(self) -> float:
        """The median of the full scores less the best."""
        return float(np.nanmedian(self.goal.qualities)) - self.goal.best

    @property
    def sieve(self) -> Ladder:
        """The usual ladder under a budget."""
        full = self.task.full
        return self.ladder(Ladder.sieve(num_layers=full.trainable_layers, full_samples=full.samples))

    def ladder(self, ladder: Ladder) -> Ladder:
        """Return the ladder with its rungs moved to the nearest that were recorded."""
        return self.task.snapped(ladder)

    def samples_only(self, shares: tuple[float, ...]) -> Ladder:
        """Return the ladder of all layers on these shares of the samples."""
        full = self.task.full
        rungs = [(full.trainable_layers, max(1, round(share * full.samples))) for share in shares]
        return self.ladder(Ladder.explicit(rungs, num_layers=full.trainable_layers, full_samples=full.samples))


def recorded() -> list[Path]:
    """Return the tables that were recorded without alignment and adapters and, of fine-tunings, from a checkpoint.

    The seconds of those with adapters are of a machine that was busy at one time and not at another.
    """
    left_out = ("-aligned.csv.gz", "-random.csv.gz", "-lora.csv.gz")
    found = (path for path in (HERE / "tables").rglob("*.csv.gz") if path.parent != MEASURED)
    return sorted(path for path in found if not path.name.endswith(left_out))


def table_of(path: Path, *, own: bool = False, by_flops: bool = False) -> Table:
    landscape = read_table(path)
    # The unit is any: budgets are in full trainings.
    landscape = replace(landscape, seconds=landscape.flops) if by_flops else with_typical_seconds(landscape)
    noise = seed_noise(landscape)
    task = RecordedTask(landscape=landscape, own=OWN if own else None)
    return Table(
        name=path.name.removesuffix(".csv.gz"),
        task=task,
        measured=replace(task, landscape=measured(landscape, MEASURED / path.name)),
        goal=goal_of(landscape),
        tolerance=0.0 if noise is None else 2 * noise.standard_deviation,
    )


def measured(landscape: Landscape, path: Path) -> Landscape:
    """Return the landscape with the scores that are in ``path``, if it is there."""
    scores = landscape.scores.copy()
    if path.exists():
        with gzip.open(path, "rt") as lines:
            for row in csv.DictReader(lines):
                cell = landscape.layers.index(int(row["layers"])), landscape.samples.index(int(row["samples"]))
                scores[(int(row["configuration"]), *cell)] = float(row["score"] or "nan")
    return replace(landscape, scores=scores)


def within_budget(task: RecordedTask, ladder: Ladder, seed: int, budget: float) -> Trace:
    """Halving within a budget on this ladder, with its usual shares."""
    count = task.num_configurations
    search = BudgetedHalving.usual(
        ladder, Budget(full_trainings=budget), num_initial=int(task.own is not None), most=count
    )
    return replay(task, lambda *, configurations: search, configurations=count, seed=seed)


def default(table: Table, seed: int, budget: float, *, running: bool = False) -> Trace:
    return within_budget(table.task if running else table.measured, table.sieve, seed, budget)


def full_trainings(table: Table, seed: int, budget: float, *, sampling: Sampling | None = None) -> Trace:
    ladder = table.samples_only(THIRDS)
    count = min(table.task.num_configurations, int(2 * budget) + 2)
    search = partial(FullFidelity, ladder=ladder)
    return replay(table.task, search, configurations=count, seed=seed, sampling=sampling)


def halving(table: Table, seed: int, budget: float, *, shares: tuple[float, ...], reduction_factor: int) -> Trace:
    """Successive halving over samples, with as many configurations as the budget is planned to pay for."""
    ladder = table.samples_only(shares)
    counts = range(reduction_factor ** (len(shares) - 1), table.task.num_configurations + 1)
    searches = [
        SuccessiveHalving(ladder=ladder, configurations=n, reduction_factor=reduction_factor) for n in counts
    ]
    planned = [sum(row.cost for row in ladder.rows(search.evaluations_per_rung())) for search in searches]
    affordable = [search for search, cost in zip(searches, planned, strict=True) if cost <= budget] or searches[:1]
    return replay(
        table.task,
        lambda *, configurations: affordable[-1],
        configurations=affordable[-1].configurations,
        seed=seed,
    )


def unsized(
    table: Table, seed: int, _budget: float, *, search: type[Hyperband] | type[AsynchronousHalving]
) -> Trace:
    """A search over all configurations of the table, which answers when its budget is over."""
    ladder = table.samples_only(THIRDS)
    return replay(
        table.task, partial(search, ladder=ladder), configurations=table.task.num_configurations, seed=seed
    )


def optuna_hyperband(table: Table, seed: int, budget: float) -> Trace:
    count = min(table.task.num_configurations, int(8 * budget) + 8)
    return replay_optuna(table.task, configurations=count, seed=seed)


METHODS = {
    DEFAULT: Method(run=default, is_sized=True),
    RUNNING: Method(run=partial(default, running=True), is_sized=True),
    "random, full trainings": Method(run=full_trainings),
    "TPE, full trainings": Method(run=partial(full_trainings, sampling=TPE)),
    "GP, full trainings": Method(run=partial(full_trainings, sampling=GP)),
    "halving over samples, thirds": Method(run=partial(halving, shares=THIRDS, reduction_factor=3), is_sized=True),
    "halving over samples, fine": Method(run=partial(halving, shares=FINE, reduction_factor=2), is_sized=True),
    "Hyperband over samples": Method(run=partial(unsized, search=Hyperband)),
    "asynchronous halving over samples": Method(run=partial(unsized, search=AsynchronousHalving)),
    "Optuna's Hyperband pruner with TPE": Method(run=optuna_hyperband),
}


def answers(table: Table, name: str, *, budget: float, seeds: int) -> NDArray[np.int_]:
    """Return where in the table the answer of each seed is, shape (seeds,)."""
    method = METHODS[name]
    found = []
    for seed in range(seeds):
        if method.is_sized:
            # It may miss its budget by a part of a training, as a user's would.
            trace = method.run(table, seed, budget)
            answer = trace.incumbents()[-1]
        else:
            key = (name, seed)
            trace = table.traces.get(key) or table.traces.setdefault(key, method.run(table, seed, LARGEST_BUDGET))
            answer = trace.incumbent_at(budget * table.task.full_seconds) or trace.steps[0]
        found.append(answer.index)
    return np.array(found)


def regrets_of(table: Table, found: NDArray[np.int_]) -> Array:
    """Return by how much the configurations at ``found`` are worse than the table's best, in units of its spread."""
    regrets = (table.goal.qualities[found] - table.goal.best) / table.spread
    # A table's best is that of the repeated ones: a lucky score of one seed may lie below it.
    return np.clip(np.nan_to_num(regrets, nan=np.inf), 0, 10)


def figures(table: Table, name: str, *, budget: float, seeds: int) -> dict[str, float]:
    """Return regret with its interval, and the share that ends well."""
    found = answers(table, name, budget=budget, seeds=seeds)
    qualities, regrets = table.goal.qualities[found], regrets_of(table, found)
    random = np.random.default_rng(0)
    means = regrets[random.integers(len(regrets), size=(BOOTSTRAPS, len(regrets)))].mean(axis=1)
    return {
        "regret": float(regrets.mean()),
        "low": float(np.quantile(means, 0.025)),
        "high": float(np.quantile(means, 0.975)),
        "ends_well": float((qualities <= table.goal.best + table.tolerance).mean()),
    }


def cost_to_match(table: Table, *, methods: Sequence[str], seeds: int) -> dict[str, float | str | None]:
    """Return the best rival's regret at the matched budget, and how many times less the default needs for as little."""
    rivals = {
        name: figures(table, name, budget=MATCHED_BUDGET, seeds=seeds)["regret"]
        for name in methods
        if name not in OURS
    }
    best = min(rivals, key=lambda name: rivals[name])
    ours = [figures(table, DEFAULT, budget=budget, seeds=seeds)["regret"] for budget in GRID]
    needed = cost_for(rivals[best], GRID, ours)
    times_less = None if needed is None else MATCHED_BUDGET / needed
    return {"rival": best, "regret": rivals[best], "budget": needed, "times_less": times_less}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", type=Path)
    parser.add_argument("--budgets", default="3,4,6,8,12,24")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument(
        "--without", action="append", default=[], choices=[name for name in METHODS if name != DEFAULT]
    )
    parser.add_argument("--own", action="store_true", help="All begin with the task's own configuration.")
    parser.add_argument(
        "--flops", action="store_true", help="Trainings cost their FLOPs instead of their seconds."
    )
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    methods = [name for name in METHODS if name not in arguments.without]
    budgets = [float(text) for text in arguments.budgets.split(",")]
    record: dict[str, object] = {
        "seeds": arguments.seeds,
        "own": arguments.own,
        "cost": "flops" if arguments.flops else "seconds",
        "tables": {},
    }
    for path in arguments.tables or recorded():
        table = table_of(path, own=arguments.own, by_flops=arguments.flops)
        rows = [(f"{table.name}: regret / ends well", *(f"{budget:g}" for budget in budgets))]
        by_budget: dict[str, dict[str, dict[str, float]]] = {f"{budget:g}": {} for budget in budgets}
        for name in methods:
            cells = []
            for budget in budgets:
                found = by_budget[f"{budget:g}"][name] = figures(table, name, budget=budget, seeds=arguments.seeds)
                cells.append(f"{found['regret']:.3f} / {found['ends_well']:.0%}")
            rows.append((name, *cells))
            print("\t".join(rows[-1]), flush=True)
        matched = cost_to_match(table, methods=methods, seeds=arguments.seeds)
        record["tables"][table.name] = {"budgets": by_budget, "cost_to_match": matched}  # type: ignore[index]
        print(text_table(rows))
        needs = "more than any that was tried"
        if matched["budget"] is not None:
            needs = f"{matched['budget']:.1f}, {matched['times_less']:.1f} times less"
        print(
            f"{matched['rival']} at {MATCHED_BUDGET:g}: {matched['regret']:.3f}; the default needs {needs}\n",
            flush=True,
        )
        if arguments.json is not None:
            arguments.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
