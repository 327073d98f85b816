"""Spearman's rank correlation, plain and in every resample at once, and of how many configurations it may be told.

Axes: B resamples, C configurations. A loss may be infinite: tied with its like, worse than the rest. ``counts`` (B, C) say
how often each configuration is in each resample, so that a rank is a sum of counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

FEWEST = 5
"""Configurations below which no rank correlation is told: of four, one order in 24 is perfect by chance."""


def rank_correlations(losses: Array, reference: Array) -> Array:
    """Return Spearman's correlation of ``losses`` (..., C) with ``reference`` (C,), (...); 0 where one ties everything."""
    # Loading scipy takes longer than importing all of frostline.
    from scipy.stats import rankdata

    ranks, reference_ranks = (rankdata(array, axis=-1) for array in (losses, reference))
    # C ranks are (C + 1) / 2 in the mean, however they are tied.
    ranks, reference_ranks = (array - (array.shape[-1] + 1) / 2 for array in (ranks, reference_ranks))
    return ratio(ranks @ reference_ranks, np.sqrt((ranks**2).sum(axis=-1) * (reference_ranks**2).sum()))


def rank_correlation_replicates(losses: Array, reference: Array, counts: Array) -> Array:
    """Return ``rank_correlations`` in every resample, (B, ...), with ranks taken anew in each."""
    reference_ranks = _ranks_in_resamples(reference, counts)
    reference_spread = (counts * reference_ranks**2).sum(axis=1)
    correlations = np.empty((*losses.shape[:-1], len(counts)))
    for index in np.ndindex(losses.shape[:-1]):
        ranks = _ranks_in_resamples(losses[index], counts)
        spread = np.sqrt((counts * ranks**2).sum(axis=1) * reference_spread)
        correlations[index] = ratio((counts * ranks * reference_ranks).sum(axis=1), spread)
    return np.moveaxis(correlations, -1, 0)


def ratio(numerator: Array, denominator: Array) -> Array:
    """Return a quotient between -1 and 1; 0 where the denominator is 0, and nothing is told."""
    is_told = denominator > 0
    quotient: Array = np.where(is_told, numerator / np.where(is_told, denominator, 1.0), 0.0)
    return np.clip(quotient, -1.0, 1.0)


def _ranks_in_resamples(losses: Array, counts: Array) -> Array:
    """Return the ranks of ``losses`` (C,) within every resample, centred on 0, (B, C); ties share the mean of theirs."""
    below = (losses[:, None] < losses[None, :]) + 0.5 * (losses[:, None] == losses[None, :])
    ranks: Array = counts @ below - counts.sum(axis=1, keepdims=True) / 2
    return ranks
