"""How sure is a figure about some configurations? The bootstrap over configurations, by counts.

A resample of C configurations is how often each was drawn, so that every statistic here is a product of matrices, and all
cells of a landscape share their resamples: differences between cells are paired.

Axes: B resamples, C configurations. Row 0 of the counts is the sample itself.
Source: Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapters 6 and 13.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

_TAIL = 0.025


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Estimate:
    """A figure and its 95 % interval: arrays of one shape, 0-d for a single figure.

    Intervals are percentiles over the resamples, so they need not be centred, nor hold the figure itself at an edge.
    """

    value: Array
    low: Array
    high: Array

    def __post_init__(self) -> None:
        assert self.value.shape == self.low.shape == self.high.shape


def resampled_counts(num_configurations: int, *, resamples: int, seed: int) -> Array:
    """Return how often each configuration is drawn, (1 + B, C): first the sample itself, then ``resamples`` resamples."""
    generator = np.random.default_rng(seed)
    shares = np.full(num_configurations, 1 / num_configurations)
    drawn = generator.multinomial(num_configurations, shares, size=resamples)
    return np.concatenate([np.ones((1, num_configurations)), drawn])


def estimate_of(replicates: Array) -> Estimate:
    """Return the estimate whose figure is ``replicates[0]`` and whose interval is that of the others, (1 + B, ...).

    A resample that could say nothing is NaN and is left out.
    """
    resampled = replicates[1:]
    # An order statistic, not a mean of two neighbours: a regret may be infinite.
    low, high = np.nanquantile(resampled, [_TAIL, 1 - _TAIL], axis=0, method="inverted_cdf")
    return Estimate(value=np.asarray(replicates[0]), low=np.asarray(low), high=np.asarray(high))
