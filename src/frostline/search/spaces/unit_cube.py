"""Where configurations lie in the unit cube of a search space.

Axes: C configurations, D coordinates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from frostline.search.spaces.dimensions import is_choice

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from frostline.records import Value
    from frostline.search.spaces.space import SearchSpace

    Array = NDArray[np.float64]


def unit_points(space: SearchSpace, rows: Sequence[Mapping[str, Value]]) -> Array:
    """Return ``rows`` of hyperparameters as points, (C, D).

    A range becomes one coordinate from 0 to 1 on its own scale, a choice one for each of its values: 1 for the chosen one.
    """
    columns: list[Array] = []
    for name, distribution in space.distributions.items():
        values = [row[name] for row in rows]
        if isinstance(distribution, CategoricalDistribution):
            columns += list(one_hot(distribution, values))
            continue
        assert isinstance(distribution, FloatDistribution | IntDistribution)
        ends = np.array([distribution.low, distribution.high], dtype=np.float64)
        numbers = np.array(values, dtype=np.float64)
        if distribution.log:
            numbers, ends = np.log10(numbers), np.log10(ends)
        columns.append((numbers - ends[0]) / (ends[1] - ends[0]))
    return np.stack(columns, axis=1)


def one_hot(distribution: CategoricalDistribution, values: Sequence[Value]) -> Array:
    """Return for each choice which of ``values`` it is, (choices, C)."""
    return np.array(
        [[is_choice(value, choice) for value in values] for choice in distribution.choices], dtype=np.float64
    )


def num_coordinates(space: SearchSpace, name: str) -> int:
    """Return how many coordinates a hyperparameter has."""
    distribution = space.distributions[name]
    return len(distribution.choices) if isinstance(distribution, CategoricalDistribution) else 1
