"""The surrogate of a rung's response: where it is known, where it is not, and by every resample."""

from __future__ import annotations

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from scipy.stats import spearmanr

from frostline.records import Configuration
from frostline.search.proposals.surrogate import Coordinates, Response
from frostline.search.spaces.space import SearchSpace

SPACE = SearchSpace(
    distributions={
        "optimizer": CategoricalDistribution(("Adam", "SGD", 1)),
        "rate": FloatDistribution(1e-4, 1e-1, log=True),
        "width": IntDistribution(8, 32),
    }
)


def configured(optimizer: str | int, rate: float, width: int, *, head: float | None = None) -> Configuration:
    values = {"optimizer": optimizer, "rate": rate, "width": width}
    return Configuration(number=0, hyperparameters=values, head={} if head is None else {"rate": head})


def test_coordinates_lie_in_the_unit_cube_and_choices_have_one_each() -> None:
    coordinates = Coordinates(space=SPACE)
    found = coordinates.of([configured("Adam", 1e-4, 8), configured("SGD", 1e-1, 32), configured(1, 1.0, 20)])
    assert found == pytest.approx(np.array([[1, 0, 0, 0, 0], [0, 1, 0, 1, 1], [0, 0, 1, 4 / 3, 0.5]]))
    assert coordinates.column("rate") == 3
    assert coordinates.column("width") == 4


def test_what_the_head_trains_with_is_told_against_the_other_layers() -> None:
    coordinates = Coordinates(space=SPACE, of_head=("head.rate",))
    found = coordinates.of([configured("Adam", 1e-3, 8), configured("Adam", 1e-3, 8, head=1e-1)])
    assert found[:, -1] == pytest.approx([0.0, 2 / 3])
    assert found[:, :-1] == pytest.approx(Coordinates(space=SPACE).of([configured("Adam", 1e-3, 8)] * 2))
    assert coordinates.column("head.rate") == 5
    # The head goes along where all layers are moved.
    moved = coordinates.moved(found, {"rate": 1.0})
    assert moved[:, 3] == pytest.approx(found[:, 3] + 1 / 3)
    assert moved[:, 5] == pytest.approx(found[:, 5])
    assert coordinates.moved(found, {"head.rate": -2.0})[1] == pytest.approx(found[0])


def drawn(number: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    positions = np.random.default_rng(seed).uniform(size=(number, 3))
    # The third coordinate does not matter.
    return positions, (positions[:, 0] - 0.3) ** 2 + 0.2 * positions[:, 1]


def test_it_ranks_configurations_that_it_has_not_seen_also_where_some_diverged() -> None:
    positions, losses = drawn(60)
    losses[losses > np.quantile(losses, 0.8)] = np.inf
    response = Response.fit(positions, losses)
    others, true = drawn(200, seed=1)
    expected = response.at(others)
    finite = true < np.quantile(true, 0.7)
    assert spearmanr(expected[finite], true[finite])[0] > 0.95
    assert response.at(others[~finite]).min() > np.median(expected[finite])
    lengths = response.kernel.k2.length_scale
    assert lengths[2] > 2 * lengths[0]


def test_a_fit_that_begins_at_another_comes_to_the_same() -> None:
    positions, losses = drawn(40)
    response = Response.fit(positions, losses)
    again = Response.fit(positions, losses, start=response)
    assert again.at(positions) == pytest.approx(response.at(positions), abs=0.05)


def test_a_resample_is_what_the_process_says_of_its_members() -> None:
    positions, losses = drawn(20)
    losses = losses + 0.1 * np.random.default_rng(2).normal(size=20)
    response = Response.fit(positions, losses)
    counts = np.ones((2, 20))
    counts[1, :10] = 0
    counts[1, 10:] = 2
    found = response.resampled(positions, counts)
    assert found[0] == pytest.approx(response.at(positions))
    # Twice the same observation has half the noise: the textbook's formula over the ten that are left.
    kept = positions[10:]
    covariance = response.kernel(kept) + response.noise / 2 * np.eye(10)
    by_hand = response.kernel(positions, kept) @ np.linalg.solve(covariance, response.scores[10:])
    assert found[1] == pytest.approx(by_hand, abs=1e-5)
