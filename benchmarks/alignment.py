"""What learning to read the lower rungs does to successive halving, on landscapes of known shifts.

    python benchmarks/alignment.py [--seeds 100] [--configurations 27 81] [--hyperparameters 3 8] [--out FILE]

Every seed draws other configurations; both searches see the same ones, the same noise, and train as many of them at every
rung. The lowest rung trains one of four layers, the next one two. A loss is a valley in the logarithm of the learning rate,
three times as steep towards high rates, with a shallow one in the weight decay and some in the others; what is told is
the regret of the final choice against the best of all that were drawn, both without noise. Prints a table and writes JSON.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from optuna.distributions import FloatDistribution

from frostline.records import Configuration, Cost, Evaluation, Status
from frostline.search.algorithms.halving import SuccessiveHalving
from frostline.search.algorithms.realigned import RealignedSearch
from frostline.search.history import History
from frostline.search.ladder import Ladder
from frostline.search.spaces.space import SearchSpace
from frostline.statistics.bootstrap import estimate_of, resampled_counts

LADDER = Ladder.explicit([(1, 150), (2, 300), (4, 300)], num_layers=4, full_samples=300)
NOISE = 0.1
BEST_RATE, BEST_DECAY = -2.3, -3.5


@dataclass(frozen=True)
class Family:
    """By how many decades the best learning rate lies higher at each rung below the last; and what else is wrong there."""

    name: str
    shifts: tuple[float, float]
    wells: bool = False
    blind: bool = False


FAMILIES = (
    Family("no shift", (0.0, 0.0)),
    Family("half a decade", (0.5, 0.25)),
    Family("one decade", (1.0, 0.5)),
    Family("0.7 decades down", (-0.7, -0.35)),
    Family("shift reverses between rungs", (1.0, -1.0)),
    Family("two optima at the lowest rung", (1.0, 0.0), wells=True),
    Family("the lowest rung is noise", (0.0, 0.0), blind=True),
)


def space_of(num_hyperparameters: int) -> SearchSpace:
    others = {f"other{index}": FloatDistribution(0.0, 1.0) for index in range(num_hyperparameters - 2)}
    return SearchSpace(
        distributions={
            "learning_rate": FloatDistribution(1e-4, 1e-1, log=True),
            "weight_decay": FloatDistribution(1e-6, 1e-1, log=True),
            **others,
        }
    )


def valley(rates: np.ndarray) -> np.ndarray:
    return np.where(rates < 0, rates**2, 3 * rates**2)


def drawn(
    family: Family, configurations: int, space: SearchSpace, seed: int
) -> tuple[list[dict[str, float]], np.ndarray]:
    """Return configurations and their losses at each rung, and in full without noise, (C, 4)."""
    generator = np.random.default_rng(seed)
    rates = generator.uniform(-4, -1, configurations)
    decays = generator.uniform(-6, -1, configurations)
    others = generator.uniform(size=(configurations, len(space.distributions) - 2))
    rest = 0.05 * (decays - BEST_DECAY) ** 2 + (0.3 * (others - 0.4) ** 2).sum(axis=1)
    losses = [valley(rates - BEST_RATE - shift) + rest for shift in (*family.shifts, 0.0)]
    if family.wells:
        losses[0] = np.minimum(losses[0], valley(rates - BEST_RATE + family.shifts[0]) + rest)
    if family.blind:
        losses[0] = generator.normal(size=configurations)
    noisy = [one + NOISE * generator.normal(size=configurations) for one in losses]
    names = list(space.distributions)[2:]
    values = [
        {
            "learning_rate": 10.0**rate,
            "weight_decay": 10.0**decay,
            **dict(zip(names, map(float, other), strict=True)),
        }
        for rate, decay, other in zip(rates, decays, others, strict=True)
    ]
    return values, np.stack([*noisy, losses[-1]], axis=1)


def search_through(
    search: SuccessiveHalving | RealignedSearch, values: list[dict[str, float]], losses: np.ndarray
) -> History:
    history = History("minimize")
    while requests := search.next_requests(history, capacity=8):
        for number, rung in ((one.number, one.rung) for one in requests):
            if number == len(history.configurations):
                history.add_configuration(Configuration(number=number, hyperparameters=values[number]))
            history.finish(
                Evaluation(
                    number=number,
                    rung=rung,
                    fidelity=LADDER.rungs[rung],
                    status=Status.FINISHED,
                    score=float(losses[number, rung]),
                    cost=Cost(seconds=1.0, samples=1),
                )
            )
    return history


def compared(family: Family, configurations: int, num_hyperparameters: int, seeds: int) -> dict[str, object]:
    space = space_of(num_hyperparameters)
    regrets = np.empty((seeds, 2))
    num_moved = 0
    for seed in range(seeds):
        values, losses = drawn(family, configurations, space, seed)
        plain = SuccessiveHalving(ladder=LADDER, configurations=configurations)
        learned = RealignedSearch(search=plain, space=space)
        for column, search in enumerate((plain, learned)):
            history = search_through(search, values, losses)
            regrets[seed, column] = losses[history.rung(2).ranking[0], -1] - losses[:, -1].min()
        num_moved += any(reading.moved for reading in learned.readings(history))
    weights = resampled_counts(seeds, resamples=1000, seed=0) / seeds
    means = [estimate_of(weights @ regrets[:, column]) for column in range(2)]
    saved = estimate_of(weights @ (regrets[:, 0] - regrets[:, 1]))
    return {
        "family": family.name,
        "configurations": configurations,
        "hyperparameters": num_hyperparameters,
        "seeds": seeds,
        "regret": float(means[0].value),
        "regret_realigned": float(means[1].value),
        "saved": [float(saved.value), float(saved.low), float(saved.high)],
        "moved": num_moved / seeds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--configurations", type=int, nargs="+", default=[27, 81])
    parser.add_argument("--hyperparameters", type=int, nargs="+", default=[3, 8])
    parser.add_argument("--out", type=Path)
    words = parser.parse_args()
    found = []
    print(
        "| lowest rungs | configurations | hyperparameters | mean regret | realigned | saved (95 %) | a rung was moved |"
    )
    print("|---|---|---|---|---|---|---|")
    for num_hyperparameters in words.hyperparameters:
        for configurations in words.configurations:
            for family in FAMILIES:
                row = compared(family, configurations, num_hyperparameters, words.seeds)
                found.append(row)
                value, low, high = row["saved"]
                print(
                    f"| {row['family']} | {configurations} | {num_hyperparameters} | {row['regret']:.3f} | "
                    f"{row['regret_realigned']:.3f} | {value:+.3f} ({low:+.3f} to {high:+.3f}) | {row['moved']:.0%} |",
                    flush=True,
                )
    if words.out is not None:
        words.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
