"""Whom few layers let climb: how many of the best are among the third that does, by score alone or unlike each other.

    python benchmarks/who_climbs.py [--tasks two-rates,attention,...] [--configurations 96] [--draws 400] [--json FILE]

The tasks are those of `continuous_spaces.py`, trained for this, and the tables of `contest.py`. Configurations are scored
at the lowest rung of the usual ladder, few layers on a tenth of the samples, and in full. Of 44 drawn from all of them 14
climb, as in a search for 6 full trainings. *Kept* is the share of the best quarter of those drawn, by full scores, that
is among the 14, in the mean over the draws; by chance it is 0.32.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from contest import recorded, table_of
from continuous_spaces import SHARES, TASKS, Task
from ladders import ALL, SEVENTH, ladder_of
from numpy.typing import NDArray

from frostline.search.ladder import Ladder
from frostline.search.variety import varied_order
from frostline.text_tables import text_table

DRAWN, CLIMBING = 44, 14

Array = NDArray[np.float64]
Values = Mapping[str, Any]


def trained(task: Task, number: int) -> tuple[list[Values], Array]:
    """Return so many configurations and their losses, (number, 2): at the lowest rung, and in full."""
    random = np.random.default_rng(0)
    ladder = Ladder.sieve(num_layers=task.num_layers, full_samples=1000)
    few = ladder.rungs[0].trainable_layers
    rows: list[Values] = []
    losses = []
    for _ in range(number):
        row = {
            name: math.exp(random.uniform(math.log(each.low), math.log(each.high)))
            if each.log
            else random.uniform(each.low, each.high)
            for name, each in task.space.items()
        }
        task.trainings.clear()
        rows.append(row)
        losses.append((task.losses(row, few, 1)[0], task.losses(row, task.num_layers, len(SHARES))[-1]))
    return rows, np.array(losses)


def looked_up(path: Path) -> tuple[list[Values], Array]:
    """Return the same of a recorded table."""
    table = table_of(path)
    landscape = table.task.landscape
    lowest = ladder_of(table, ((SEVENTH, 0.1), (ALL, 1))).rungs[0]
    z, s = landscape.layers.index(lowest.trainable_layers), landscape.samples.index(lowest.samples)
    losses = np.stack([landscape.losses[:, z, s], table.goal.qualities], axis=1)
    return [each.hyperparameters for each in landscape.configurations], losses


def cases(tasks: str, number: int) -> Iterator[tuple[str, list[Values], Array]]:
    """Yield the name, the configurations and the losses of every task, and then of every table."""
    for name in filter(None, tasks.split(",")):
        yield name, *trained(TASKS[name], number)
    for path in recorded():
        yield path.name.removesuffix(".csv.gz"), *looked_up(path)


def kept(rows: Sequence[Values], losses: Array, draws: int) -> tuple[float, float]:
    """Return the share of the best quarter that climbs by score alone, and unlike each other."""
    random = np.random.default_rng(0)
    losses = np.where(np.isfinite(losses), losses, math.inf)
    values = dict(enumerate(rows))
    shares = []
    for _ in range(draws):
        drawn = random.permutation(len(rows))[:DRAWN]
        best = {*drawn[np.argsort(losses[drawn, 1], kind="stable")][: DRAWN // 4].tolist()}
        ranking = drawn[np.argsort(losses[drawn, 0], kind="stable")].tolist()
        climbing = (ranking[:CLIMBING], varied_order(ranking, values)[:CLIMBING])
        shares.append([len(best.intersection(each)) / len(best) for each in climbing])
    by_score, varied = np.mean(shares, axis=0)
    return float(by_score), float(varied)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default=",".join(TASKS), help="Names, separated by commas; none: tables alone.")
    parser.add_argument("--configurations", type=int, default=96)
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = []
    for name, rows, losses in cases(options.tasks, options.configurations):
        by_score, varied = kept(rows, losses, options.draws)
        found.append({"name": name, "hyperparameters": len(rows[0]), "by_score": by_score, "varied": varied})
        print(found[-1], flush=True)
    table = [("task", "hyperparameters", "kept by score", "kept unlike each other")]
    for each in found:
        row = (each["name"], each["hyperparameters"], f"{each['by_score']:.2f}", f"{each['varied']:.2f}")
        table.append(tuple(map(str, row)))
    print(text_table(table))
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
