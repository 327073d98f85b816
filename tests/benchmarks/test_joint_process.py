"""The process that `joint_model.py` measures is the one it says: its gradient, its expectation and what moves it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "joint_process.py"
FEW, WHOLE, FULL = np.log([[0.15, 0.1], [1, 0.1], [1, 1]])


@pytest.fixture(scope="module")
def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("joint_process", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["joint_process"] = module
    spec.loader.exec_module(module)
    return module


def seen_of(module, points):
    random = np.random.default_rng(1)
    losses = 1 + points[:, 0] + 0.1 * random.random(len(points))
    few = [*range(len(points) - 2)]
    return [
        module.Seen(indices=few, losses=losses[few], fidelity=FEW),
        module.Seen(indices=[1, 4, 5], losses=0.5 * losses[[1, 4, 5]], fidelity=WHOLE),
        module.Seen(indices=[4], losses=0.2 * losses[[4]], fidelity=FULL),
    ]


def covariances(module, process, points, fidelities, indices):
    """Return the covariance of all evaluations and one more, and those with full trainings of ``indices``."""
    (one, *_), told = indices, process.evaluations
    more = (points[[one]], fidelities, np.array([one]))
    everything = tuple(np.concatenate([known, new]) for known, new in zip(told, more, strict=True))
    whole = module._whole(process.theta, module._Pairs.of(everything, everything))
    full = (points[indices], np.zeros((len(indices), 2)), np.array(indices))
    return whole, module._prior(process.theta, module._Pairs.of(full, everything))


def test_the_gradient_is_that_of_the_value(module):
    points = np.random.default_rng(0).random((9, 3))
    evaluations = (
        points[[*range(9), 1, 4, 4]],
        np.array([FEW] * 9 + [WHOLE] * 2 + [FULL]),
        np.array([*range(9), 1, 4, 4]),
    )
    pairs, losses = module._Pairs.of(evaluations, evaluations), np.random.default_rng(2).normal(size=12)
    mode = np.concatenate([np.full(3, module.LENGTH), module.OTHERS])
    theta, widths = mode + 0.1 * np.random.default_rng(3).normal(size=12), np.ones(12)
    arguments = (pairs, losses, mode, widths)
    gradient = module.improbability(theta, *arguments)[1]
    for step, slope in zip(1e-5 * np.eye(12), gradient, strict=True):
        above, below = (module.improbability(theta + sign * step, *arguments)[0] for sign in (1, -1))
        assert slope == pytest.approx((above - below) / 2e-5, rel=1e-5, abs=1e-6)


def test_what_is_unseen_is_expected_as_its_neighbours_were(module):
    points = np.linspace(0, 1, 12)[:, None]
    process = module.JointProcess.fit(seen_of(module, points), points)
    # The last two were never trained, and losses rise with the coordinate.
    expected = process.expected(points[[0, 10, 11]], [0, 10, 11])
    assert expected[0] < expected[1] < expected[2]


def test_an_evaluation_moves_what_is_expected_as_conditioning_on_it_does(module):
    points = np.random.default_rng(0).random((12, 3))
    process = module.JointProcess.fit(seen_of(module, points), points)
    moved = process.moved_by(points, np.array([FULL, WHOLE]), [1, 6], [4, 1])
    for number, rival, fidelity, found in zip([1, 6], [4, 1], [FULL, WHOLE], moved, strict=True):
        whole, with_full = covariances(module, process, points, fidelity[None], [number, rival])
        known, new = whole[:-1, :-1], whole[:-1, -1]
        variance = whole[-1, -1] - new @ np.linalg.solve(known, new)
        weight = np.linalg.solve(whole, with_full[0] - with_full[1])[-1]
        assert found == pytest.approx(abs(weight) * np.sqrt(variance), rel=1e-3)


def test_what_diverged_counts_as_far_above_the_median(module):
    losses = module.winsorised(np.array([1.0, 2.0, 4.0, 1e9, np.inf]))
    assert losses[:3] == pytest.approx(np.log([1, 2, 4]))
    assert losses[3] == losses[4]
    assert losses[2] < losses[3] < np.log(1e9)
