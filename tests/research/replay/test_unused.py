from __future__ import annotations

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from frostline.research.replay.unused import Unused, unit_points
from frostline.search.space import SearchSpace
from tests.research.replay.tables import table


def test_every_configuration_comes_once_in_an_order_of_the_seed() -> None:
    landscape = table(np.zeros(50))
    orders = []
    for seed in (0, 0, 1):
        unused = Unused(landscape, seed=seed)
        orders.append([unused.take_next() for _ in range(50)])
        assert len(unused) == 0
    assert sorted(orders[0]) == sorted(orders[2]) == list(range(50))
    assert orders[0] == orders[1] != orders[2]


def test_points_of_the_unit_cube_by_hand() -> None:
    space = SearchSpace(
        distributions={
            "log": FloatDistribution(1e-4, 1.0, log=True),
            "whole": IntDistribution(10, 20),
            "choice": CategoricalDistribution((1, "b", "a")),
            "fixed": CategoricalDistribution(("only",)),
        }
    )
    rows = [
        {"log": 1e-3, "whole": 15, "choice": "b", "fixed": "only"},
        {"log": 1.0, "whole": 10, "choice": 1, "fixed": "only"},
    ]
    half = np.sqrt(0.5)
    expected = [[0.25, 0.5, 0.0, half, 0.0, half], [1.0, 0.0, half, 0.0, 0.0, half]]
    points = unit_points(space, rows)
    np.testing.assert_allclose(points, expected, atol=1e-12)
    # Two different choices are 1 apart.
    assert np.linalg.norm((points[0] - points[1])[2:]) == pytest.approx(1.0)


def test_the_nearest_is_taken_and_then_the_next_nearest() -> None:
    # Rates 1e-4, 1e-3, 1e-2, 0.1, 1; optimizers Adam, SGD, Adam, SGD, Adam.
    unused = Unused(table(np.zeros(5)), seed=3)
    suggestion = {"rate": 2e-3, "optimizer": "Adam"}
    # The same optimizer two decades away is nearer than the other one close by.
    assert [unused.take_nearest(suggestion) for _ in range(5)] == [2, 0, 4, 1, 3]
