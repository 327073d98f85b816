"""Configurations as points of the unit cube, by hand."""

from __future__ import annotations

import numpy as np
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from frostline.search.spaces.space import SearchSpace
from frostline.search.spaces.unit_cube import num_coordinates, unit_points

SPACE = SearchSpace(
    distributions={
        "log": FloatDistribution(1e-4, 1.0, log=True),
        "whole": IntDistribution(10, 20),
        "choice": CategoricalDistribution((1, "b", "a")),
        "fixed": CategoricalDistribution(("only",)),
    }
)


def test_ranges_have_one_coordinate_and_choices_one_each() -> None:
    rows = [
        {"log": 1e-3, "whole": 15, "choice": "b", "fixed": "only"},
        {"log": 1.0, "whole": 10, "choice": 1, "fixed": "only"},
    ]
    expected = [[0.25, 0.5, 0, 1, 0, 1], [1.0, 0.0, 1, 0, 0, 1]]
    np.testing.assert_allclose(unit_points(SPACE, rows), expected, atol=1e-12)
    assert [num_coordinates(SPACE, name) for name in SPACE.distributions] == [1, 1, 3, 1]
