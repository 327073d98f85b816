"""Which recorded configuration comes next: in a random order, or the one nearest to what a sampler suggests.

Axes: C configurations, D coordinates of the unit cube.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from optuna.distributions import CategoricalDistribution

from frostline.search.spaces.unit_cube import num_coordinates, unit_points
from frostline.seeding import derive_seed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from frostline.audit.landscape import Array, Landscape
    from frostline.records import Value
    from frostline.search.spaces.space import SearchSpace


class Unused:
    """The recorded configurations that a search has not drawn yet; none is drawn twice.

    The order is drawn from ``seed`` alone, so that all searches replayed under one seed meet the configurations in the
    same order: their comparison is paired. With ``first`` that one is taken before all others, whatever is suggested.
    """

    def __init__(self, landscape: Landscape, *, seed: int, first: int | None = None) -> None:
        generator = np.random.default_rng(derive_seed(seed, "order"))
        self._order = [int(index) for index in generator.permutation(landscape.num_configurations)]
        self._first = first
        if first is not None:
            self._order.remove(first)
            self._order.insert(0, first)
        self._space = landscape.space
        self._points = comparable_points(landscape.space, landscape.configurations)

    def __len__(self) -> int:
        return len(self._order)

    def take_next(self) -> int:
        """Return the index of the next configuration in the order."""
        self._first = None
        return self._order.pop(0)

    def take_nearest(self, values: Mapping[str, Value]) -> int:
        """Return the index of the configuration nearest to ``values`` in the unit cube, the first in order at a tie."""
        if self._first is not None:
            return self.take_next()
        point = comparable_points(self._space, [values])
        distances = np.square(self._points[self._order] - point).sum(axis=1)
        return self._order.pop(int(distances.argmin()))


def comparable_points(space: SearchSpace, rows: Sequence[Mapping[str, Value]]) -> Array:
    """Return ``rows`` as points of which two with different choices, alike in the rest, are 1 apart, (C, D)."""
    is_of_choice = [
        isinstance(distribution, CategoricalDistribution)
        for name, distribution in space.distributions.items()
        for _ in range(num_coordinates(space, name))
    ]
    return unit_points(space, rows) * np.where(is_of_choice, np.sqrt(0.5), 1.0)
