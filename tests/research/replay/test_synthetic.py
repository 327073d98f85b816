from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import minimize

from frostline.research.replay.synthetic import (
    augmented_branin,
    augmented_hartmann,
    augmented_rosenbrock,
    hartmann,
)

FUNCTIONS = [
    hartmann(3),
    hartmann(6),
    augmented_hartmann(),
    augmented_branin(),
    augmented_rosenbrock(),
    augmented_rosenbrock(4),
]
every_function = pytest.mark.parametrize("function", FUNCTIONS, ids=lambda one: f"{one.name}-{len(one.low)}")


@every_function
def test_the_published_minimum_lies_at_the_published_place(function) -> None:
    assert function(np.array([function.minimizer]))[0] == pytest.approx(function.minimum, abs=2e-5)
    assert all(
        low <= value <= high
        for low, value, high in zip(function.low, function.minimizer, function.high, strict=True)
    )


@every_function
def test_nothing_in_the_box_is_lower(function) -> None:
    random = np.random.default_rng(0)
    low, high = np.array(function.low), np.array(function.high)
    starts = low + (high - low) * random.random((2000, len(low)))
    best = starts[np.argsort(function(starts))[:5]]
    found = [
        minimize(
            lambda point: float(function(np.clip(point, low, high)[None])[0]),
            start,
            method="Nelder-Mead",
            options={"maxiter": 2000, "xatol": 1e-7, "fatol": 1e-9},
        ).fun
        for start in best
    ]
    assert min(found) == pytest.approx(function.minimum, abs=2e-5)


def test_branin_has_its_three_minima_and_those_published_for_lower_fidelities() -> None:
    function = augmented_branin()
    places = [(-math.pi, 12.275), (math.pi, 2.275), (9.42478, 2.475)]
    np.testing.assert_allclose(function(np.array(places)), 0.397887, atol=1e-5)
    # BoTorch's documentation: with its fidelity at 0.1, 0.5 and 0.9 the minimum at pi lies at these.
    for fidelity, second in ((0.1, 1.3867356039019576), (0.5, 1.781519779945532), (0.9, 2.1763039559891064)):
        for levels in ((fidelity, fidelity), (0.0, 2 * fidelity)):
            value = function(np.array([[math.pi, second]]), layers_level=levels[0], samples_level=levels[1])
            assert value[0] == pytest.approx(0.397887, abs=1e-5)


def written_out(name: str, x, u: float, v: float) -> float:
    """The formulas again, in plain Python and term by term."""
    if name == "augmented-rosenbrock":
        return sum(
            100 * (x[i + 1] - x[i] ** 2 + 0.1 * (1 - u)) ** 2 + (x[i] - 1 + 0.1 * (1 - v) ** 2) ** 2
            for i in range(len(x) - 1)
        )
    fidelity = (u + v) / 2
    if name == "augmented-branin":
        b = 5.1 / (4 * math.pi**2) - 0.1 * (1 - fidelity)
        return (
            (x[1] - b * x[0] ** 2 + 5 * x[0] / math.pi - 6) ** 2
            + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x[0])
            + 10
        )
    rows = {
        3: [
            (1.0, (3, 10, 30), (0.3689, 0.1170, 0.2673)),
            (1.2, (0.1, 10, 35), (0.4699, 0.4387, 0.7470)),
            (3.0, (3, 10, 30), (0.1091, 0.8732, 0.5547)),
            (3.2, (0.1, 10, 35), (0.0381, 0.5743, 0.8828)),
        ],
        6: [
            (1.0, (10, 3, 17, 3.5, 1.7, 8), (0.1312, 0.1696, 0.5569, 0.0124, 0.8283, 0.5886)),
            (1.2, (0.05, 10, 17, 0.1, 8, 14), (0.2329, 0.4135, 0.8307, 0.3736, 0.1004, 0.9991)),
            (3.0, (3, 3.5, 1.7, 10, 17, 8), (0.2348, 0.1451, 0.3522, 0.2883, 0.3047, 0.6650)),
            (3.2, (17, 8, 0.05, 10, 0.1, 14), (0.4047, 0.8828, 0.8732, 0.5743, 0.1091, 0.0381)),
        ],
    }[len(x)]
    total = 0.0
    for row, (alpha, widths, centre) in enumerate(rows):
        if name == "augmented-hartmann":
            alpha -= 0.1 * (1 - fidelity) if row == 0 else 0.0
        else:
            alpha -= 0.5 * ((1 - u) ** 2 + (1 - v) ** 2) / 2
        total -= alpha * math.exp(-sum(a * (one - p) ** 2 for a, one, p in zip(widths, x, centre, strict=True)))
    return total


@every_function
def test_values_at_all_fidelities_are_those_of_the_formulas_written_out(function) -> None:
    random = np.random.default_rng(1)
    low, high = np.array(function.low), np.array(function.high)
    points = low + (high - low) * random.random((20, len(low)))
    for u, v in ((0.0, 0.0), (0.3, 0.8), (1.0, 0.25), (1.0, 1.0)):
        expected = [written_out(function.name, list(point), u, v) for point in points]
        np.testing.assert_allclose(function(points, layers_level=u, samples_level=v), expected, rtol=1e-12)


@pytest.mark.parametrize("build", [hartmann, None], ids=["hartmann", "branin"])
def test_a_shift_moves_the_best_value_of_the_first_hyperparameter_with_the_layers_alone(build) -> None:
    plain = hartmann(3, bias=0.0) if build else augmented_branin()
    shifted = plain.shifted(0.2)
    points = np.array([plain.minimizer])
    width = plain.high[0] - plain.low[0]
    moved = points + np.array([[0.2 * 0.5 * width] + [0.0] * (len(plain.low) - 1)])
    at = {"layers_level": 0.5, "samples_level": 0.1}
    np.testing.assert_allclose(shifted(moved, **at), plain(points, **at))
    assert shifted(points, **at)[0] != pytest.approx(plain(points, **at)[0])
    np.testing.assert_allclose(shifted(points, samples_level=0.0), plain(points, samples_level=0.0))
    assert points.tolist() == [list(plain.minimizer)]


def test_noise_falls_in_both_axes_down_to_that_of_the_full_training() -> None:
    function = hartmann(3, noise=2.0, full_noise=0.25)
    levels = [
        function.noise_at(layers_level=u, samples_level=v)
        for u, v in ((0, 0), (0.5, 0), (0, 0.5), (1, 0.5), (1, 1))
    ]
    assert levels == [2.25, 1.75, 1.75, 0.75, 0.25]
