"""Small landscapes whose scores and seconds can be told by hand."""

from __future__ import annotations

import numpy as np
from optuna.distributions import CategoricalDistribution, FloatDistribution

from frostline.audit.landscape import Landscape
from frostline.records import Configuration, Direction
from frostline.search.spaces.space import SearchSpace

SPACE = SearchSpace(
    distributions={
        "rate": FloatDistribution(1e-4, 1.0, log=True),
        "optimizer": CategoricalDistribution(("Adam", "SGD")),
    }
)


def table(
    scores,
    *,
    seconds=None,
    layers: tuple[int, ...] = (1, 2),
    samples: tuple[int, ...] = (10, 20, 30),
    horizon: str = "full",
    direction: Direction = "minimize",
    repeats=None,
) -> Landscape:
    """A landscape of ``scores`` (C, Z, S) or, the same in every cell, (C,); a cell takes layers * samples seconds."""
    shape = (len(scores), len(layers), len(samples))
    scores = np.asarray(scores, dtype=np.float64)
    scores = np.broadcast_to(scores[:, None, None] if scores.ndim == 1 else scores, shape).copy()
    if seconds is None:
        seconds = np.broadcast_to(np.outer(layers, samples).astype(np.float64), shape).copy()
    unknown = np.full(shape, np.nan)
    return Landscape(
        task="by hand",
        reference="by hand",
        space=SPACE,
        direction=direction,
        sample_unit="samples",
        horizon=horizon,
        seed=0,
        configurations=tuple(
            Configuration(
                number=number,
                hyperparameters={
                    "rate": float(10 ** (-4 + 4 * number / max(1, shape[0] - 1))),
                    "optimizer": ("Adam", "SGD")[number % 2],
                },
            )
            for number in range(shape[0])
        ),
        layers=layers,
        samples=samples,
        scores=scores,
        seconds=seconds,
        peak_bytes=unknown,
        flops=unknown.copy(),
        repeats=np.empty((0, shape[0])) if repeats is None else np.asarray(repeats, dtype=np.float64),
    )
