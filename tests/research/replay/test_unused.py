from __future__ import annotations

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from frostline.research.replay.unused import Unused, comparable_points
from frostline.search.spaces.space import SearchSpace
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


def test_two_different_choices_are_one_apart() -> None:
    space = SearchSpace(
        distributions={"rate": FloatDistribution(0.0, 4.0), "choice": CategoricalDistribution((1, "b", "a"))}
    )
    points = comparable_points(space, [{"rate": 1.0, "choice": "b"}, {"rate": 1.0, "choice": 1}])
    np.testing.assert_allclose(points, [[0.25, 0, np.sqrt(0.5), 0], [0.25, np.sqrt(0.5), 0, 0]])
    assert np.linalg.norm(points[0] - points[1]) == pytest.approx(1.0)


def test_the_nearest_is_taken_and_then_the_next_nearest() -> None:
    # Rates 1e-4, 1e-3, 1e-2, 0.1, 1; optimizers Adam, SGD, Adam, SGD, Adam.
    unused = Unused(table(np.zeros(5)), seed=3)
    suggestion = {"rate": 2e-3, "optimizer": "Adam"}
    # The same optimizer two decades away is nearer than the other one close by.
    assert [unused.take_nearest(suggestion) for _ in range(5)] == [2, 0, 4, 1, 3]


@pytest.mark.parametrize("suggests", [False, True])
def test_the_first_comes_before_all_others_whatever_is_suggested(suggests: bool) -> None:
    landscape = table(np.zeros(5))
    unused, plain = Unused(landscape, seed=3, first=4), Unused(landscape, seed=3)
    taken = [unused.take_nearest({"rate": 1e-4, "optimizer": "Adam"}) if suggests else unused.take_next()]
    assert taken == [4]
    assert [unused.take_next() for _ in range(4)] == [
        index for index in (plain.take_next() for _ in range(5)) if index != 4
    ]
