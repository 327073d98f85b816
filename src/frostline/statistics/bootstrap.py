"""How sure is a figure about some configurations? The bootstrap over configurations, by counts.

A resample of C configurations is how often each was drawn, so that every statistic here is a product of matrices, and all
cells of a landscape share their resamples: differences between cells are paired.

Axes: B resamples, C configurations. Row 0 of the counts is the sample itself.
Source: Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapters 6 and 13.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

_TAIL = 0.025
_STILL = 1e-12
"""What a figure differs by from rounding alone."""


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
    resampled = generator.multinomial(num_configurations, shares, size=resamples)
    return np.concatenate([np.ones((1, num_configurations)), resampled])


def estimate_of(replicates: Array) -> Estimate:
    """Return the estimate whose figure is ``replicates[0]`` and whose interval is that of the others, (1 + B, ...)."""
    # Order statistics, not means of two neighbours: a regret may be infinite.
    low, high = (
        np.asarray(np.quantile(replicates[1:], share, axis=0, method="inverted_cdf"))
        for share in (_TAIL, 1 - _TAIL)
    )
    return Estimate(value=np.asarray(replicates[0]), low=low, high=high)


def fall_probabilities(replicates: Array) -> Array:
    """Return how probable so low a figure, or a lower one, is if the true one is 0: for ``replicates`` (1 + B, T), (T,).

    By the normal distribution with the spread of the resamples: with some hundred tests, what must be told apart lies
    further out than a thousand resamples reach. One that is below 0 in all resamples alike, as a share that falls from all
    to none, is certain.
    """
    figures, spreads = replicates[0], replicates[1:].std(axis=0)
    return np.array(
        [
            math.erfc(-figure / spread / math.sqrt(2)) / 2 if spread > _STILL else float(figure > -_STILL)
            for figure, spread in zip(figures, spreads, strict=True)
        ]
    )


def sign_probability(num_higher: int, num_different: int) -> float:
    """Return how probable it is that as many or more of ``num_different`` fair coins show heads: the one-sided sign test."""
    from scipy.special import bdtrc  # loaded late, as in ``ranks``

    return float(bdtrc(num_higher - 1, num_different, 0.5))


def holm(probabilities: Array, *, level: float = 0.05) -> NDArray[np.bool_]:
    """Return which of the tests are significant, (T,), so that ``level`` bounds the chance of a single false one.

    Source: Holm 1979, A Simple Sequentially Rejective Multiple Test Procedure.
    """
    order = np.argsort(probabilities, kind="stable")
    num_left = len(probabilities) - np.arange(len(probabilities))
    rejected = np.logical_and.accumulate(probabilities[order] * num_left <= level)
    significant = np.zeros(len(probabilities), dtype=bool)
    significant[order] = rejected
    return significant


def sign_interval(differences: Array) -> tuple[float, float]:
    """Return the 95 % interval of the median of ``differences`` (C,) that the two-sided sign test does not reject.

    Infinite where there are too few: below 6.
    """
    from scipy.special import bdtr

    ordered, number = np.sort(differences), len(differences)
    # The most order statistics that may be cut off at either end.
    num_cut = int(np.count_nonzero(bdtr(np.arange(number // 2), number, 0.5) <= _TAIL))
    if num_cut == 0:
        return -math.inf, math.inf
    return float(ordered[num_cut - 1]), float(ordered[number - num_cut])
