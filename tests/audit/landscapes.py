"""Landscapes for tests, of given losses."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from optuna.distributions import BaseDistribution, FloatDistribution

from frostline.audit.landscape import Landscape
from frostline.records import Configuration
from frostline.search.spaces.space import SearchSpace


def landscape(
    losses: ArrayLike, *, hyperparameters: list[dict[str, Any]] | None = None, **changed: Any
) -> Landscape:
    """The landscape of ``losses`` (C, Z, S), of 1, 2, ... layers and 100, 200, ... tokens; others at choice."""
    scores = np.asarray(losses, dtype=float)
    number, num_layers, num_budgets = scores.shape
    layers, samples = tuple(range(1, num_layers + 1)), tuple(range(100, 100 * num_budgets + 1, 100))
    values = hyperparameters or [{"rate": 10.0 ** -(1 + index % 4)} for index in range(number)]
    distributions: dict[str, BaseDistribution] = {"rate": FloatDistribution(1e-4, 1.0, log=True)}
    settings: dict[str, Any] = {
        "task": "quick task", "reference": "quick.py:task", "direction": "minimize", "sample_unit": "tokens",
        "horizon": "full", "seed": 7, "space": SearchSpace(distributions=distributions), "layers": layers,
        "samples": samples,
        "configurations": tuple(Configuration(number=n, hyperparameters=each) for n, each in enumerate(values)),
        "seconds": np.broadcast_to(np.outer(layers, samples) / 100.0, scores.shape).copy(),
        "peak_bytes": np.full(scores.shape, np.nan), "flops": np.full(scores.shape, np.nan),
        "repeats": np.empty((0, number)),
    }  # fmt: skip
    return Landscape(scores=scores, **{**settings, **changed})


def noisy(quality: np.ndarray, spread: ArrayLike, *, seed: int = 0) -> np.ndarray:
    """Losses (C, Z, S): each configuration's ``quality`` (C,), blurred by ``spread`` (Z, S) at each cell."""
    spreads = np.asarray(spread, dtype=float)
    noise = np.random.default_rng(seed).normal(size=(len(quality), *spreads.shape))
    return quality[:, None, None] + spreads * noise
