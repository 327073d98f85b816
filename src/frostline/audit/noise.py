"""What the seed alone does to the score of a full training: no fidelity ranks finer than that.

Axes: C configurations, R + 1 seeds (the audit's own and its R repeats).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from frostline.statistics.bootstrap import Estimate, estimate_of, resampled_counts
from frostline.statistics.ranks import FEWEST, rank_correlation_replicates

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from frostline.audit.landscape import Landscape

    Array = NDArray[np.float64]

_FEWEST_POOLED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedNoise:
    """The noise of full training under other seeds, in units of the score."""

    standard_deviation: float
    """Of one configuration's score over seeds, pooled over the better half of the configurations where at least 3 of them
    are repeated, else over all that are: what differs among the worst decides nothing."""
    ceiling: Estimate | None
    """Spearman's correlation between full trainings under two seeds, the mean over pairs of seeds, with its 95 % interval
    over configurations; None if no pair of seeds shares 5. A cell shares its seed with full fidelity: agreement above the
    ceiling is about the seed, not about the configurations."""
    num_repeated: int
    """How many configurations have a score under two seeds or more. Where these are not all, and were chosen as the best,
    they are alike, and the ceiling is lower than over all."""
    num_unstable: int
    """How many of them diverged under some seeds and finished under others: the standard deviation says nothing of those."""

    @property
    def tolerance(self) -> float:
        """Two standard deviations: what differs by less is within seed noise."""
        return 2 * self.standard_deviation


def seed_noise(landscape: Landscape, *, resamples: int = 1000, seed: int = 0) -> SeedNoise | None:
    """Return the seed noise of full training; None where no two seeds of one configuration finished."""
    losses = np.concatenate([landscape.full_losses[None], landscape.repeated_losses])
    is_known, finished = ~np.isnan(losses), np.isfinite(losses)
    repeated = np.flatnonzero(is_known.sum(axis=0) >= 2)
    deviation = _pooled_deviation(losses, finished)
    if deviation is None:
        return None
    return SeedNoise(
        standard_deviation=deviation,
        ceiling=_ceiling(losses[:, repeated], resampled_counts(len(repeated), resamples=resamples, seed=seed)),
        num_repeated=len(repeated),
        num_unstable=int((finished.any(axis=0) & (is_known & ~finished).any(axis=0))[repeated].sum()),
    )


def _pooled_deviation(losses: Array, finished: NDArray[np.bool_]) -> float | None:
    """Return the root of the pooled variance within configurations, every one weighted by its degrees of freedom."""
    chosen = np.flatnonzero(finished.sum(axis=0) >= 2)
    if not len(chosen):
        return None
    better_half = np.argsort(losses[0], kind="stable")[: (losses.shape[1] + 1) // 2]
    better = np.intersect1d(chosen, better_half)
    if len(better) >= _FEWEST_POOLED:
        chosen = better
    values = np.where(finished, losses, np.nan)[:, chosen]
    squares = float(np.nansum((values - np.nanmean(values, axis=0)) ** 2))
    freedom = int((finished[:, chosen].sum(axis=0) - 1).sum())
    return math.sqrt(squares / freedom)


def _ceiling(losses: Array, counts: Array) -> Estimate | None:
    pairs = []
    for first, second in combinations(losses, 2):
        both = ~(np.isnan(first) | np.isnan(second))
        if both.sum() >= FEWEST:
            pairs.append(rank_correlation_replicates(first[both], second[both], counts[:, both]))
    return estimate_of(np.mean(pairs, axis=0)) if pairs else None
