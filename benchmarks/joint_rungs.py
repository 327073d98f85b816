"""Configurations as the rungs of the default's ladder see them: recorded ones, or those of `dense_configurations.py`.

Axes: C configurations, R rungs, D coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from contest import regrets_of, table_of
from numpy.typing import NDArray
from scipy.stats import spearmanr

from frostline.search.budgets.planned_climb import PlannedClimb, usual_shares
from frostline.search.ladder import Ladder
from frostline.search.spaces.unit_cube import unit_points

Array = NDArray[np.float64]

MOST = 3.0
"""Regrets above it count as it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Rungs:
    """What a simulated climb asks of configurations."""

    name: str
    losses: Array
    """(C, R); infinite where a training diverged."""
    prices: Array
    """What a climb to each rung takes, in full trainings, (R,)."""
    fidelities: Array
    """The logarithms of the shares of layers and samples, (R, 2)."""
    points: Array
    """(C, D)."""
    regrets: Array
    """(C,)."""
    climb: PlannedClimb

    @classmethod
    def of(cls, path: Path) -> Rungs:
        table = table_of(path)
        landscape, full = table.task.landscape, table.task.full
        ladder = table.ladder(Ladder.sieve(num_layers=full.trainable_layers, full_samples=full.samples))
        cells = [landscape.nearest_cell(rung) for rung in ladder.rungs]
        seconds = np.median(landscape.seconds, axis=0) / table.task.full_seconds
        prices = [seconds[cell] for cell in cells]
        for rung in range(1, len(cells)):
            if ladder.continues(rung):
                prices[rung] -= seconds[cells[rung - 1]]
        sign = 1 if landscape.direction == "minimize" else -1
        losses = np.stack([sign * landscape.scores[:, z, s] for z, s in cells], axis=1)
        points = unit_points(landscape.space, [each.hyperparameters for each in landscape.configurations])
        shares = [
            (rung.trainable_layers / full.trainable_layers, rung.samples / full.samples) for rung in ladder.rungs
        ]
        return cls(
            name=table.name,
            losses=np.where(np.isfinite(losses), losses, np.inf),
            prices=np.array(prices),
            fidelities=np.log(shares),
            points=points[:, points.std(axis=0) > 0],
            regrets=np.minimum(regrets_of(table, np.arange(landscape.num_configurations)), MOST),
            climb=PlannedClimb(usual_shares(ladder)),
        )

    @classmethod
    def dense(cls, path: Path) -> Rungs:
        """Return what `dense_configurations.py` wrote."""
        with np.load(path) as file:
            losses, points, shares, seconds = (file[name] for name in ("losses", "points", "shares", "seconds"))
        prices = seconds.copy()
        again = np.flatnonzero(shares[1:, 0] == shares[:-1, 0]) + 1
        prices[again] -= seconds[again - 1]
        ladder = Ladder.explicit(
            [(round(100 * z), round(100 * s)) for z, s in shares], num_layers=100, full_samples=100
        )
        full = losses[:, -1]
        return cls(
            name=path.stem,
            losses=losses,
            prices=prices,
            fidelities=np.log(shares),
            points=points,
            regrets=np.minimum((full - full.min()) / (np.median(full) - full.min()), MOST),
            climb=PlannedClimb(usual_shares(ladder)),
        )

    def agreements(self) -> dict[str, list[float]]:
        """Return Spearman's correlation of each rung with the last, of all configurations and of the best third."""
        full = self.losses[:, -1]
        best = full <= np.quantile(full, 1 / 3)
        return {
            name: [round(float(spearmanr(losses, full[chosen])[0]), 3) for losses in self.losses[chosen, :-1].T]
            for name, chosen in (("all", np.isfinite(full)), ("best third", best))
        }
