"""Cells of a landscape against full training: budgets and costs as shares, and tables of a row for each number of layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from frostline.audit.landscape import known_mean
from frostline.pages.parts import Table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from frostline.audit.landscape import Landscape

    Array = NDArray[np.float64]


def percent(part: float) -> str:
    """Return a share in per cent, as exactly as anybody reads it."""
    return f"{100 * part:.0f}\u00a0%" if part >= 0.0995 else f"{100 * part:.2g}\u00a0%"


def share(landscape: Landscape, budget: int) -> str:
    """Return the budget at this index as a share of the full one."""
    return percent(landscape.samples[budget] / landscape.samples[-1])


def shares(landscape: Landscape) -> list[str]:
    """Return every budget as a share of the full one."""
    return [share(landscape, budget) for budget in range(len(landscape.samples))]


def budget_table(landscape: Landscape, values: Array, form: str) -> Table:
    """Return a table of ``values`` (Z, S), a row for each number of layers and a column for each budget."""
    rows = [
        [f"{layers}", *(format(value, form) for value in row)]
        for layers, row in zip(landscape.layers, values.tolist(), strict=True)
    ]
    return Table(["layers", *shares(landscape)], rows)


def cost_shares(landscape: Landscape) -> tuple[Array, str] | None:
    """Return what each cell costs as a share of a full training, (Z, S), and by what measure; None if nothing is known."""
    for name, of_cells in (("seconds", landscape.seconds), ("FLOPs", landscape.flops)):
        mean = known_mean(of_cells)
        if np.isfinite(mean).all() and mean[-1, -1] > 0:
            return mean / mean[-1, -1], name
    return None
