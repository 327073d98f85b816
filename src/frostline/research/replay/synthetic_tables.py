"""Landscapes drawn from synthetic functions: random configurations, evaluated over a grid of layers × samples.

Axes: C configurations, Z numbers of trained layers, S budgets of samples, R repeats.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from optuna.distributions import FloatDistribution

from frostline.audit.landscape import Landscape
from frostline.errors import OptionError
from frostline.records import Configuration
from frostline.search.spaces.space import SearchSpace
from frostline.seeding import derive_seed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.audit.landscape import Array
    from frostline.research.replay.synthetic import TwoAxisFunction


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticGrid:
    """The cells of a synthetic landscape, and what they cost.

    Budgets are equal parts of ``full_samples``. Per sample a layer's forward pass counts 1 and its backward pass 2; of
    n layers with z trained, ``population`` configurations together take (n - z) / population + 3 z each, and a full
    training takes ``full_seconds``.
    """

    num_layers: int = 8
    num_budgets: int = 10
    full_samples: int = 1000
    full_seconds: float = 100.0
    population: int = 8

    def __post_init__(self) -> None:
        few = {"num_layers": self.num_layers, "num_budgets": self.num_budgets, "population": self.population}
        for name, value in few.items():
            if value < 1:
                raise OptionError(f"{name} is {value}, but must be at least 1.")
        if self.full_samples < self.num_budgets:
            raise OptionError(
                f"full_samples is {self.full_samples}, but {self.num_budgets} budgets need as many: give more samples."
            )

    @property
    def layers(self) -> tuple[int, ...]:
        """All numbers of trained layers."""
        return tuple(range(1, self.num_layers + 1))

    @property
    def samples(self) -> tuple[int, ...]:
        """The budgets."""
        return tuple(self.full_samples * (part + 1) // self.num_budgets for part in range(self.num_budgets))

    def seconds(self) -> Array:
        """Return what a training from scratch up to each cell takes, (Z, S)."""
        trained = np.array(self.layers, dtype=np.float64)
        per_sample = ((self.num_layers - trained) / self.population + 3 * trained) / (3 * self.num_layers)
        return self.full_seconds * np.outer(per_sample, np.array(self.samples) / self.full_samples)


def synthetic_landscape(
    function: TwoAxisFunction,
    *,
    configurations: int,
    seed: int,
    grid: SyntheticGrid | None = None,
    num_repeats: int = 0,
) -> Landscape:
    """Return ``configurations`` drawn uniformly, at every cell of ``grid``, and ``num_repeats`` of full training.

    Noise is independent from cell to cell. Levels are log-scaled from the lowest number of layers, and from the lowest
    budget, to the full one. Same arguments, same landscape.
    """
    cells = SyntheticGrid() if grid is None else grid
    generator = np.random.default_rng(derive_seed(seed, "synthetic", function.name))
    low, high = np.array(function.low), np.array(function.high)
    points: Array = low + (high - low) * generator.random((configurations, len(low)))
    scores: Array = np.empty((configurations, len(cells.layers), len(cells.samples)))
    for z, layers_level in enumerate(levels(cells.layers)):
        for s, samples_level in enumerate(levels(cells.samples)):
            at = {"layers_level": layers_level, "samples_level": samples_level}
            noise = function.noise_at(**at) * generator.standard_normal(configurations)
            scores[:, z, s] = function(points, **at) + noise
    repeats = function(points) + function.noise_at() * generator.standard_normal((num_repeats, configurations))
    names = [f"x{index + 1}" for index in range(len(low))]
    ranges = zip(names, function.low, function.high, strict=True)
    unknown = np.full(scores.shape, np.nan)
    return Landscape(
        task=function.name,
        reference=function.name,
        space=SearchSpace(distributions={name: FloatDistribution(low, high) for name, low, high in ranges}),
        direction="minimize",
        sample_unit="samples",
        horizon="full",
        seed=seed,
        configurations=tuple(
            Configuration(number=number, hyperparameters=dict(zip(names, map(float, point), strict=True)))
            for number, point in enumerate(points)
        ),
        layers=cells.layers,
        samples=cells.samples,
        scores=scores,
        seconds=np.broadcast_to(cells.seconds(), scores.shape).copy(),
        peak_bytes=unknown,
        flops=unknown.copy(),
        repeats=repeats,
    )


def levels(axis: Sequence[int]) -> tuple[float, ...]:
    """Return how far up, from 0 to 1 by the logarithm, each value of a rising axis is; a single value is at the top."""
    if len(axis) == 1:
        return (1.0,)
    whole = math.log(axis[-1] / axis[0])
    return tuple(math.log(value / axis[0]) / whole for value in axis)
