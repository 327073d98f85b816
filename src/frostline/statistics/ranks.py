"""Spearman's rank correlation, as searches need it, and of how many it may be told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

FEWEST = 5
"""Configurations below which no rank correlation is told: of four, one order in 24 is perfect by chance."""


def rank_correlations(values: Array, reference: Array) -> Array:
    """Return Spearman's correlation of ``values`` (..., C) with ``reference`` (C,), (...); 0 where one ties everything."""
    # Loading scipy takes longer than importing all of frostline.
    from scipy.stats import rankdata

    ranks, other_ranks = (rankdata(one, axis=-1) for one in (values, reference))
    ranks, other_ranks = (one - one.mean(axis=-1, keepdims=True) for one in (ranks, other_ranks))
    spread = np.sqrt((ranks**2).sum(axis=-1) * (other_ranks**2).sum())
    found: Array = np.where(spread > 0, ranks @ other_ranks / np.where(spread > 0, spread, 1.0), 0.0)
    return found
