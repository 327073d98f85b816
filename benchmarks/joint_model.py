"""Whether a model of all that was seen, jointly over configurations, layers and samples, makes the default search better.

    python benchmarks/joint_model.py [--tables NAME,...] [--budgets 3,4,6,8,12] [--seeds 50]
        [--without WAY] [--dense FILE] [--json FILE]

Recorded tables are those of `contest.py`, climbed as the default climbs them: on the ladder ``Ladder.sieve``, with its usual
shares, as many at each rung as the budget pays for. It is reckoned here, without the six candidates that go first and with
the mean seconds of each cell, so that all ways below spend alike and begin with the same configurations; what a model takes
to decide costs nothing. Regret is that of `contest.py`, 3 at most.

- *default*: all candidates drawn at random, promoted by their own score at the rung.
- *promoted by the model*: by what the model expects of their full training.
- *continued by the model*: half as many as usual climb to the first rung of all layers, and from then on always the one
  whose next rung moves what is expected of it by most beside the best, for what it takes; a full training is kept for the
  best.
- *in two waves*: a part begins, and its share climbs to the rung below the top; then the others begin, and all compete for
  the rest of each rung. At random, or a third of them at random and two thirds proposed: those of the table, not seen yet,
  of which the model expects the best full training.

With ``--dense FILE`` the configurations are those of `dense_configurations.py` instead, and the file keeps both.

*Against the default*: the geometric mean, over tables and budgets, of the regret over that of the default (a hundredth is
added to both), with a 95 % bootstrap interval over seeds, and the table where it is largest. *Chosen without the table*: for
each table the way whose mean is least on the others, and what it does on that one.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from frostline.process import prepare_process

prepare_process()

import numpy as np
from contest import recorded
from joint_process import JointProcess, Seen
from joint_rungs import Rungs
from numpy.typing import NDArray
from scipy.stats import norm

from frostline.text_tables import text_table

Array = NDArray[np.float64]

TOLERANCE = 0.03
"""By how much of the budget the last training may exceed it, as in the search."""
RANDOM = 1 / 3
"""Of those that follow a first wave, so many are drawn at random."""
REFITTED = 4
"""How many continue before the model is fitted again; it is told of each at once."""
ADDED, BOOTSTRAPS = 0.01, 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How a search uses the model."""

    first_wave: float = 1.0
    """The share of the candidates that begins before anybody is proposed."""
    proposes: bool = False
    promotes: bool = False
    continues: bool = False
    most_seeds: int | None = None
    """Of how many seeds it is measured at most, where it takes long to decide; beside the default of the same ones."""


DEFAULT = "default"
WAYS = {
    DEFAULT: Way(),
    "promoted by the model": Way(promotes=True),
    "continued by the model": Way(continues=True, most_seeds=20),
    "in two waves, at random": Way(first_wave=0.5),
    "in two waves, the second proposed": Way(first_wave=0.5, proposes=True),
    "in waves of 70 and 30 %, the second proposed": Way(first_wave=0.7, proposes=True),
}


@dataclass(kw_only=True, eq=False)
class Search:
    """One search over a table, the configurations in the order of a seed."""

    rungs: Rungs
    way: Way
    budget: float
    order: list[int]
    """Where in the table the configurations are that are drawn at random, one after the other."""
    seen: list[list[int]] = field(init=False)
    """Who was trained at each rung."""
    spent: float = 0.0

    def __post_init__(self) -> None:
        self.seen = [[] for _ in self.rungs.prices]

    def answer(self) -> int:
        """Return where in the table the best of those is that were trained in full."""
        rungs, way, climb = self.rungs, self.way, self.rungs.climb
        # The first that is drawn begins with all layers, and from the start.
        first = float(rungs.prices[1])
        self._train(self.order[:1], 1)
        number = max(1, min(climb.affordable(self.budget - first, rungs.prices.tolist(), 0), len(self.order) - 1))
        wave = max(1, round(way.first_wave * number))
        self._train(self.order[1 : 1 + wave], 0)
        if wave < number:
            planned = climb.counts(number, 0)
            for rung in range(1, len(planned) - 1):
                self._promote(rung, max(1, round(way.first_wave * planned[rung])) + (rung == 1))
            self._train(self._others(number - wave), 0)
        if way.continues:
            self._promote(1, max(1, climb.counts(number, 0)[1] // 2) + 1)
            self._continue()
            return min(self.seen[-1], key=lambda index: rungs.losses[index, -1])
        for rung in range(1, len(rungs.prices)):
            paid = sum(len(self.seen[above]) * float(rungs.prices[above]) for above in range(rung, len(self.seen)))
            left = self.budget * (1 + TOLERANCE) - self.spent + paid - (first if rung == 1 else 0.0)
            affordable = climb.affordable(left, rungs.prices.tolist(), rung)
            self._promote(rung, max(1, min(affordable, len(self.seen[rung - 1]))) + (rung == 1))
        return min(self.seen[-1], key=lambda index: rungs.losses[index, -1])

    def _train(self, indices: Sequence[int], rung: int) -> None:
        self.seen[rung] += indices
        self.spent += len(indices) * float(self.rungs.prices[rung])

    def _promote(self, rung: int, number: int) -> None:
        """Train the best of the rung below at ``rung``, until so many of them are there."""
        below, there = self.seen[rung - 1], {*self.seen[rung]}
        losses = self.rungs.losses[below, rung - 1]
        if self.way.promotes and len(below) > 1:
            losses = np.where(
                np.isfinite(losses), self._process().expected(self.rungs.points[below], below), np.inf
            )
        ranking = [below[position] for position in np.argsort(losses, kind="stable")]
        # Those that are there already keep their places: the others are the best that fit beside them.
        num_climbing = next(
            (count for count in range(number, 0, -1) if len(there.union(ranking[:count])) <= number), 0
        )
        climbing = [index for index in ranking[:num_climbing] if index not in there]
        self._train(climbing, rung)

    def _continue(self) -> None:
        """Train whoever tells most of the best for what it takes, one after the other, and at last the best in full."""
        rungs, prices = self.rungs, self.rungs.prices
        kept = float(prices[2:].sum())
        process = None
        for step in count():
            highest = {index: rung for rung, indices in enumerate(self.seen[:-1]) for index in indices}
            indices = [index for index in highest if index not in self.seen[-1]]
            above = np.array([highest[index] + 1 for index in indices])
            left = self.budget * (1 + TOLERANCE) - self.spent
            process = self._process(process if step % REFITTED else None)
            everyone = indices + self.seen[-1]
            expected = process.expected(rungs.points[everyone], everyone)
            if not (affordable := prices[above] <= left - kept).any():
                best = indices[int(np.argmin(expected[: len(indices)]))]
                while best not in self.seen[-1] and (
                    not self.seen[-1]
                    or prices[highest[best] + 1 :].sum() <= self.budget * (1 + TOLERANCE) - self.spent
                ):
                    highest[best] += 1
                    self._train([best], highest[best])
                return
            ranking = np.argsort(expected)
            rivals = np.where(np.arange(len(indices)) == ranking[0], ranking[1], ranking[0])
            of_rivals = [everyone[position] for position in rivals]
            moved = process.moved_by(rungs.points, rungs.fidelities[above], indices, of_rivals)
            behind = np.abs(expected[: len(indices)] - expected[rivals]) / np.maximum(moved, 1e-12)
            gains = moved * (norm.pdf(behind) - behind * norm.sf(behind)) / prices[above]
            chosen = int(np.argmax(np.where(affordable, gains, -1.0)))
            self._train([indices[chosen]], int(above[chosen]))

    def _others(self, number: int) -> list[int]:
        """Return who begins after the first wave."""
        trained = {*self.seen[0], *self.seen[1]}
        unseen = [index for index in self.order if index not in trained]
        if not self.way.proposes:
            return unseen[:number]
        num_random = int(np.ceil(RANDOM * number))
        drawn, unseen = unseen[:num_random], unseen[num_random:]
        expected = self._process().expected(self.rungs.points[unseen], unseen)
        return drawn + [
            unseen[position] for position in np.argsort(expected, kind="stable")[: number - num_random]
        ]

    def _process(self, start: JointProcess | None = None) -> JointProcess:
        rungs = self.rungs
        trained = [
            Seen(indices=indices, losses=rungs.losses[indices, rung], fidelity=rungs.fidelities[rung])
            for rung, indices in enumerate(self.seen)
            if indices
        ]
        return JointProcess.fit(trained, rungs.points, start=start)


def regrets(rungs: Rungs, way: Way, *, budget: float, seeds: int) -> list[float]:
    """Return the regret of each seed."""
    seeds = min(seeds, way.most_seeds or seeds)
    orders = [np.random.default_rng(seed).permutation(len(rungs.losses)).tolist() for seed in range(seeds)]
    searches = (Search(rungs=rungs, way=way, budget=budget, order=order) for order in orders)
    return [round(float(rungs.regrets[search.answer()]), 4) for search in searches]


Results = dict[str, dict[str, dict[str, list[float]]]]
"""Regrets by table, way and budget, one for each seed."""


def against_the_default(results: Results, way: str, tables: Sequence[str], drawn: NDArray[np.int_]) -> Array:
    """Return by table and resample of seeds ``drawn`` (B, N) the geometric mean over budgets of the ratio, (T, B)."""
    ratios = []
    for table in tables:
        ours, default = (
            np.array([*results[table][name].values()])[:, drawn].mean(axis=-1) + ADDED for name in (way, DEFAULT)
        )
        ratios.append(np.exp(np.log(ours / default).mean(axis=0)))
    return np.array(ratios)


def summary(results: Results) -> dict[str, Any]:
    """Return of every way its mean regrets and how it compares, and what is chosen without each table."""
    tables = [*results]
    rows = []
    for way in results[tables[0]]:
        seeds = len(next(iter(results[tables[0]][way].values())))
        drawn = np.random.default_rng(0).integers(seeds, size=(BOOTSTRAPS, seeds))
        by_table = against_the_default(results, way, tables, np.arange(seeds)[None])[:, 0]
        resampled = np.exp(np.log(against_the_default(results, way, tables, drawn)).mean(axis=0))
        budgets = [*results[tables[0]][way]]
        rows.append(
            {
                "way": way,
                "seeds": seeds,
                "means": {
                    b: float(np.mean([np.mean(results[table][way][b]) for table in tables])) for b in budgets
                },
                "ratio": float(np.exp(np.log(by_table).mean())),
                "low": float(np.quantile(resampled, 0.025)),
                "high": float(np.quantile(resampled, 0.975)),
                "tables": dict(zip(tables, by_table.tolist(), strict=True)),
            }
        )
    chosen = {}
    for table in tables:
        others = [row["ratio"] ** len(tables) / row["tables"][table] for row in rows]
        best = rows[int(np.argmin(others))]
        chosen[table] = {"way": best["way"], "ratio": best["tables"][table]}
    return {"ways": rows, "chosen_without": chosen}


def measured(
    rungs: Rungs, ways: Mapping[str, Way], *, budgets: Sequence[str], seeds: int
) -> dict[str, dict[str, list[float]]]:
    """Return the regrets of each of ``ways``."""
    found: dict[str, dict[str, list[float]]] = {}
    for name, way in ways.items():
        found[name] = {budget: regrets(rungs, way, budget=float(budget), seeds=seeds) for budget in budgets}
        means = " ".join(f"{np.mean(each):.3f}" for each in found[name].values())
        print(f"{rungs.name:18} {name:45} {means}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables")
    parser.add_argument("--dense", type=Path)
    parser.add_argument("--budgets", default="3,4,6,8,12")
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument(
        "--without", action="append", default=[], choices=[name for name in WAYS if name != DEFAULT]
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    ways = {name: way for name, way in WAYS.items() if name not in options.without}
    wanted = None if options.tables is None else options.tables.split(",")
    record = {} if options.json is None or not options.json.exists() else json.loads(options.json.read_text())
    section = record.setdefault("tables" if options.dense is None else "dense", {"regrets": {}})
    tables = (Rungs.of(path) for path in recorded()) if options.dense is None else [Rungs.dense(options.dense)]
    for rungs in tables:
        if wanted is not None and rungs.name not in wanted:
            continue
        found = measured(rungs, ways, budgets=options.budgets.split(","), seeds=options.seeds)
        section["regrets"][rungs.name] = found
        section |= summary(dict(sorted(section["regrets"].items())))
        section.setdefault("agreements", {})[rungs.name] = rungs.agreements()
        if options.json is not None:
            options.json.write_text(json.dumps(record) + "\n")
    rows = [("", *options.budgets.split(","), "against the default", "worst table")]
    for row in section["ways"]:
        worst = max(row["tables"], key=lambda table: row["tables"][table])
        ratio = f"{row['ratio']:.2f} ({row['low']:.2f} to {row['high']:.2f})"
        means = [f"{mean:.3f}" for mean in row["means"].values()]
        rows.append((row["way"], *means, ratio, f"{worst} {row['tables'][worst]:.2f}"))
    print(text_table(rows))
    for table, agreements in section["agreements"].items():
        print(f"Spearman's correlation with full trainings, {table}: {agreements}")
    for table, chosen in section["chosen_without"].items():
        print(f"chosen without {table}: {chosen['way']}, {chosen['ratio']:.2f} of the default there")


if __name__ == "__main__":
    main()
