"""How a ranking of configurations compares with their full losses, in every resample at once; ``ranks`` correlates the two.

Axes: B resamples, C configurations. ``counts`` (B, C) say how often each configuration is in each resample, so that a
statistic over pairs is a quadratic form of them. A loss may be infinite: tied with its like, worse than the rest.
``losses`` (..., C) are of the cells, ``full`` (C,) of full training; what is returned is (B, ...).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from frostline.statistics.ranks import ratio

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Array = NDArray[np.float64]


def pair_order_replicates(losses: Array, full: Array, counts: Array) -> tuple[Array, Array]:
    """Return how pairs of configurations keep their order between ``losses`` (..., C) and ``full`` (C,), (B, ...) each.

    First Kendall's tau-b; then the probability that a pair with different full losses keeps its order, where a pair tied
    at the cell counts one half.
    """
    full_signs = _signs(full)
    full_pairs = _weighted_pairs(np.abs(full_signs), counts)
    tau, kept = (np.empty((*losses.shape[:-1], len(counts))) for _ in range(2))
    for index, cell in _cells(losses):
        signs = _signs(cell)
        agreeing = _weighted_pairs(signs * full_signs, counts)
        tau[index] = ratio(agreeing, np.sqrt(_weighted_pairs(np.abs(signs), counts) * full_pairs))
        kept[index] = 0.5 + 0.5 * ratio(agreeing, full_pairs)
    return np.moveaxis(tau, -1, 0), np.moveaxis(kept, -1, 0)


def recall_replicates(losses: Array, full: Array, counts: Array, *, num_best: int) -> Array:
    """Return the share of the ``num_best`` best at full fidelity that are among the ``num_best`` best of the cell."""
    best = places(full, counts, num_best)
    recalls = np.empty((*losses.shape[:-1], len(counts)))
    for index, cell in _cells(losses):
        recalls[index] = np.minimum(best, places(cell, counts, num_best)).sum(axis=1) / num_best
    return np.moveaxis(recalls, -1, 0)


def regret_replicates(losses: Array, full: Array, counts: Array) -> Array:
    """Return the full loss of the cell's best configuration minus the best full loss; the mean over tied ones."""
    best = _mean_loss(full, places(full, counts, 1))
    regrets = np.empty((*losses.shape[:-1], len(counts)))
    for index, cell in _cells(losses):
        picked = _mean_loss(full, places(cell, counts, 1))
        # Where even the best diverges, nothing is lost by taking another.
        regrets[index] = np.where(np.isfinite(best), picked - np.where(np.isfinite(best), best, 0.0), 0.0)
    return np.moveaxis(regrets, -1, 0)


def places(losses: Array, counts: Array, num_places: int) -> Array:
    """Return how many of the ``num_places`` best places each configuration takes in a resample, (B, C); ties share."""
    _, group = np.unique(losses, return_inverse=True)
    sizes = counts @ np.eye(group.max() + 1)[group]
    taken = np.clip(num_places - (sizes.cumsum(axis=1) - sizes), 0, sizes)
    shares = np.where(sizes > 0, taken / np.maximum(sizes, 1), 0.0)
    of_each: Array = counts * shares[:, group]
    return of_each


def _mean_loss(full: Array, weights: Array) -> Array:
    # Zero times an infinite loss is no number.
    mean: Array = (weights * np.where(weights > 0, full, 0.0)).sum(axis=1)
    return mean


def _cells(losses: Array) -> Iterator[tuple[tuple[int, ...], Array]]:
    for index in np.ndindex(losses.shape[:-1]):
        yield index, losses[index]


def _signs(losses: Array) -> Array:
    # Of comparisons and not of differences: two infinite losses are tied.
    signs: Array = (losses[:, None] > losses[None, :]).astype(np.float64) - (losses[:, None] < losses[None, :])
    return signs


def _weighted_pairs(of_pairs: Array, counts: Array) -> Array:
    total: Array = ((counts @ of_pairs) * counts).sum(axis=1)
    return total
