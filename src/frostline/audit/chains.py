"""The chains of measured cells that successive halving could climb, and what each costs.

Axes: Z numbers of trained layers, S budgets of samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, product
from typing import TYPE_CHECKING

from frostline.search.algorithms.halving import divided

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Cell = tuple[int, int]
"""Indices into a landscape's layers and samples."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Cells below full fidelity, the lowest first, and the reduction factor."""

    chain: tuple[Cell, ...]
    factor: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chains:
    """All chains over a grid for a search that begins with so many configurations."""

    seconds: NDArray[np.float64]
    """(Z, S), the mean of a training from scratch."""
    configurations: int

    @property
    def full(self) -> Cell:
        """The full training."""
        return self.seconds.shape[0] - 1, self.seconds.shape[1] - 1

    def shallow(self) -> Iterator[Plan]:
        """Return all plans with one or two rungs below the full one."""
        cells = self._cells()
        for cell in cells:
            for factor in self._factors(2):
                yield Plan((cell,), factor)
        for lower in cells:
            for upper in cells:
                if is_below(lower, upper):
                    for factor in self._factors(3):
                        yield Plan((lower, upper), factor)

    def deep(self, *, below: float) -> Iterator[Plan]:
        """Return the plans with three rungs below the full one that cost less than ``below`` seconds."""
        # The lowest rung trains all configurations: alone it must leave something of that.
        cells = [cell for cell in self._cells() if self.configurations * self.seconds[cell] < below]
        factors = self._factors(4)
        for lowest, lower in product(cells, self._cells()):
            for upper in self._cells() if is_below(lowest, lower) else ():
                for factor in factors if is_below(lower, upper) else ():
                    plan = Plan((lowest, lower, upper), factor)
                    if self.seconds_of(plan) < below:
                        yield plan

    def _cells(self) -> list[Cell]:
        cells = [(z, s) for z in range(self.seconds.shape[0]) for s in range(self.seconds.shape[1])]
        return cells[:-1]

    def _factors(self, num_rungs: int) -> list[int]:
        factors = range(2, self.configurations + 1)
        return [factor for factor in factors if factor ** (num_rungs - 1) <= self.configurations]

    def seconds_of(self, plan: Plan) -> float:
        """Return what successive halving takes on a plan."""
        quotas = divided(self.configurations, len(plan.chain) + 1, plan.factor)
        total = quotas[0] * float(self.seconds[plan.chain[0]])
        for (below, cell), quota in zip(pairwise((*plan.chain, self.full)), quotas[1:], strict=True):
            # With equal layers training goes on where it was.
            done = float(self.seconds[below]) if below[0] == cell[0] else 0.0
            total += quota * (float(self.seconds[cell]) - done)
        return total


def is_below(lower: Cell, upper: Cell) -> bool:
    """Return whether a cell is less than another along one axis and no more along the other."""
    return lower != upper and lower[0] <= upper[0] and lower[1] <= upper[1]
