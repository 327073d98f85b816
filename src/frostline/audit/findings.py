"""What is found about a landscape along one axis of its grid, and the words for the levels there.

Axes: along either axis of the grid it is called A, and the other one X.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from frostline.wording import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from frostline.audit.landscape import Landscape

    Array = NDArray[np.float64]

Axis = Literal["layers", "samples"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fall:
    """Two fidelities of which the higher is the worse one, beyond chance."""

    lower: int
    """Layers or samples: along the axis that the finding is about."""
    higher: int
    at: int | None
    """Where on the other axis; None: in the mean over it."""
    difference: float
    """What is found at the higher minus what is found at the lower; of losses and seconds the median over configurations."""
    low: float
    """The lower end of the 95 % interval of the difference, over configurations."""
    high: float
    num_falling: int | None = None
    """For how many configurations the higher one is the worse; None where ranks were tested, which are of all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Whether one condition on the fidelity holds along one axis of the grid, and a sentence that says it."""

    name: str
    axis: Axis
    holds: bool
    """No fall was found beyond chance. With few configurations small ones cannot be."""
    sentence: str
    num_tests: int
    """The chance that any of them is false, 5 %, is shared among them (Holm)."""
    falls: tuple[Fall, ...]
    """The largest first."""


class Grid:
    """The landscape seen along one axis, and the words for its levels."""

    def __init__(self, landscape: Landscape, axis: Axis) -> None:
        self.landscape = landscape
        self.axis = axis
        self.along, self.across = landscape.layers, landscape.samples
        if axis == "samples":
            self.along, self.across = self.across, self.along

    def turned(self, of_cells: Array) -> Array:
        """Return an array (..., Z, S) as (..., A, X)."""
        return of_cells if self.axis == "layers" else np.swapaxes(of_cells, -1, -2)

    def level(self, value: int) -> str:
        """Return "2 layers" or "1,024 tokens", along the axis."""
        return counted(value, "layer") if self.axis == "layers" else f"{value:,} {self.landscape.sample_unit}"

    def training(self, value: int) -> str:
        """Return "Training 2 of 8 layers" or "Training on 1,024 of 8,192 tokens"."""
        if self.axis == "layers":
            return f"Training {value} of {counted(self.along[-1], 'layer')}"
        return f"Training on {value:,} of {self.along[-1]:,} {self.landscape.sample_unit}"

    def place(self, value: int | None) -> str:
        """Return "on 1,024 tokens" or "with 2 layers", on the other axis."""
        if value is None:
            return "in the mean over all " + ("budgets" if self.axis == "layers" else "numbers of layers")
        return (
            f"on {value:,} {self.landscape.sample_unit}"
            if self.axis == "layers"
            else f"with {counted(value, 'layer')}"
        )
