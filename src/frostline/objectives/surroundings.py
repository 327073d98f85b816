"""What a trial is told of the search that it belongs to, and whom it tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from frostline.layers import LayerStack
    from frostline.objectives.kept_training import KeptTraining


def _unheard(_: object) -> None:
    """Tell nobody: a function of a name, as it may travel to another process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a trial needs of the search that it belongs to."""

    full_samples: int
    """How many samples a full training takes."""
    num_layers: int | None
    """How many layers the model has; None: nobody has seen it yet."""
    layers: LayerStack | None = None
    """Its layers in the order in which they ran; None: nobody has seen it run."""
    kept: KeptTraining | None = None
    """What it goes on from."""
    keep: Callable[[KeptTraining], object] = _unheard
    may_continue: bool = True
    """Whether a rung of more samples may go on from its end."""
    progressed: Callable[[int], object] = _unheard
    """To be told how many samples were seen."""
