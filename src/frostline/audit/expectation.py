"""How far neighbouring rungs of a search should agree on its survivors, if they rank as the audit says they do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from frostline.statistics.ranks import FEWEST, rank_correlations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.audit.landscape import Landscape
    from frostline.audit.recommendation import LadderOutcome

_DRAWS = 200
_LOWEST_SHARE = 0.05


def least_agreements(landscape: Landscape, outcome: LadderOutcome, *, seed: int = 0) -> tuple[float, ...]:
    """Return, for each rung but the last, the agreement with the next that one search in twenty falls below.

    Searches are drawn from the landscape's configurations, with replacement, and halved as ``outcome`` is; the agreement is
    Spearman's over those that the rung promotes: survivors are alike, so it is far below that over all. -1, which
    nothing falls below, where fewer than five survive.
    """
    cells = [
        (landscape.layers.index(rung.trainable_layers), landscape.samples.index(rung.samples))
        for rung in outcome.ladder.rungs
    ]
    generator = np.random.default_rng(seed)
    losses = landscape.losses
    agreements: list[list[float]] = [[] for _ in cells[:-1]]
    for _ in range(_DRAWS):
        alive = generator.integers(landscape.num_configurations, size=outcome.configurations)
        for rung, quota in enumerate(outcome.quotas[1:]):
            alive = alive[np.argsort(losses[alive, *cells[rung]], kind="stable")][:quota]
            if quota >= FEWEST:
                lower, upper = (losses[alive, *cells[at]] for at in (rung, rung + 1))
                agreements[rung].append(float(rank_correlations(lower, upper)))
    return tuple(_lowest(values) for values in agreements)


def _lowest(values: Sequence[float]) -> float:
    return float(np.quantile(values, _LOWEST_SHARE)) if values else -1.0
