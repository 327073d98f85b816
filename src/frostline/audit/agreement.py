"""How well each cell of a landscape ranks the configurations: against full fidelity, and between the rungs of a search.

Axes: C configurations, Z numbers of trained layers, S budgets of samples, B resamples of the configurations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from frostline.errors import AuditError
from frostline.statistics.bootstrap import Estimate, estimate_of, resampled_counts
from frostline.statistics.ranks import FEWEST, rank_correlation_replicates, rank_correlations
from frostline.statistics.replicates import (
    pair_order_replicates,
    recall_replicates,
    regret_replicates,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from frostline.audit.landscape import Landscape

    Array = NDArray[np.float64]

__all__ = ["Agreement", "Estimate", "SurvivorAgreement", "agreement", "rank_correlation", "survivor_agreement"]

_SHARE_OF_BEST = 4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Agreement:
    """How well each cell ranks the configurations as full fidelity does, with 95 % intervals over configurations.

    Shapes: every estimate (Z, S). At full fidelity itself the agreement is perfect by construction.
    """

    num_configurations: int
    top_k: int
    """How many of the best ``top_recall`` is about: a quarter, at least one."""
    spearman: Estimate
    """-1 to 1, and 0 where the cell ties all configurations."""
    kendall: Estimate
    """Kendall's tau-b, likewise."""
    pair_order: Estimate
    """The probability that two configurations keep their order; ties at the cell count one half."""
    top_recall: Estimate
    """The share of the best ``top_k`` at full fidelity that are among the cell's best ``top_k``."""
    regret: Estimate
    """The full loss of the cell's best configuration minus the best full loss: what the final pick loses if the cell
    decides. Infinite where the cell's best diverges in full training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SurvivorAgreement:
    """Spearman's correlation between two rungs over the configurations that both have, with its 95 % interval.

    Those were chosen by the lower rung. They are alike, so their correlation is smaller than that over all
    configurations, and the two must not be compared: ``label`` goes wherever the figure goes.
    """

    value: float
    low: float
    high: float
    num_configurations: int
    label: str = "among survivors"


def agreement(landscape: Landscape, *, resamples: int = 1000, seed: int = 0) -> Agreement:
    """Return how well each cell of the landscape ranks its configurations.

    ``seed`` is that of the resamples.
    Raises: AuditError below 5 configurations, if all have the same full loss, or if each was trained by its own factors.
    """
    full = landscape.full_losses
    require_rankings(landscape)
    require_enough(len(full), "the audit has")
    if np.unique(full).size < 2:
        loss, remedy = f"have the same full score, {landscape.scores[0, -1, -1]:.6g}", "widen the space"
        if np.isinf(full[0]):
            loss, remedy = "diverged in full training", "narrow the space to what can be trained"
        raise AuditError(f"all {len(full)} configurations {loss}, so there is no order to agree with: {remedy}.")
    losses = np.moveaxis(landscape.losses, 0, -1)
    counts = resampled_counts(len(full), resamples=resamples, seed=seed)
    top_k = max(1, len(full) // _SHARE_OF_BEST)
    kendall, pair_order = pair_order_replicates(losses, full, counts)
    return Agreement(
        num_configurations=len(full),
        top_k=top_k,
        spearman=estimate_of(rank_correlation_replicates(losses, full, counts)),
        kendall=estimate_of(kendall),
        pair_order=estimate_of(pair_order),
        top_recall=estimate_of(recall_replicates(losses, full, counts, num_best=top_k)),
        regret=estimate_of(regret_replicates(losses, full, counts)),
    )


def rank_correlation(first: Array, second: Array) -> float:
    """Return Spearman's correlation between two losses of the same configurations, (C,) each.

    An infinite loss, of a training that diverged, is tied with its like and worse than the rest. 0 where all are tied.
    Raises: AuditError below 5 configurations, or if a loss is missing (NaN): what is left after a search has halved is no
    sample of all, see ``survivor_agreement``.
    """
    first, second = _checked_pair(first, second)
    missing = int((np.isnan(first) | np.isnan(second)).sum())
    if missing:
        raise AuditError(
            f"{missing} of {len(first)} configurations have no loss at one of the two fidelities, so the others are "
            f"survivors, and their correlation misleads: use survivor_agreement, which says so."
        )
    require_enough(len(first), "there are")
    return float(rank_correlations(first, second))


def survivor_agreement(lower: Array, upper: Array, *, resamples: int = 1000, seed: int = 0) -> SurvivorAgreement:
    """Return how well two rungs of a search agree on the configurations that have both losses, (C,) each.

    NaN: not evaluated at that rung.
    Raises: AuditError if fewer than 5 configurations have both.
    """
    lower, upper = _checked_pair(lower, upper)
    both = ~(np.isnan(lower) | np.isnan(upper))
    survivors = int(both.sum())
    require_enough(survivors, "both rungs have")
    counts = resampled_counts(survivors, resamples=resamples, seed=seed)
    estimate = estimate_of(rank_correlation_replicates(lower[both], upper[both], counts))
    return SurvivorAgreement(
        value=float(estimate.value),
        low=float(estimate.low),
        high=float(estimate.high),
        num_configurations=survivors,
    )


def _checked_pair(first: Array, second: Array) -> tuple[Array, Array]:
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if first.ndim != 1 or first.shape != second.shape:
        raise AuditError(
            f"the losses have shapes {first.shape} and {second.shape}, but must be two equal (configurations,): give one "
            f"loss for each configuration, NaN where it has none."
        )
    return first, second


def require_rankings(landscape: Landscape) -> None:
    """Raise AuditError if other factors were drawn for every configuration, so that no cell is a fidelity."""
    if landscape.alignment.draws:
        raise AuditError(
            f"factors were drawn for each configuration ({landscape.alignment}), so that its scores rank nothing: read the "
            f"audit whose configurations these are, which learns from it."
        )


def require_enough(num_configurations: int, whose: str) -> None:
    """Raise AuditError below 5 configurations; ``whose`` begins the sentence."""
    if num_configurations < FEWEST:
        raise AuditError(
            f"{whose} {num_configurations} configurations, but a rank correlation needs at least {FEWEST}: evaluate more."
        )
