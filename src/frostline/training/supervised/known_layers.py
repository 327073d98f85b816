"""The layers of models that are alike, found once: finding them takes a forward pass of the whole model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from torch.nn.parameter import is_lazy

from frostline.layers.cutting.plain_attributes import plain_attributes
from frostline.layers.storages import places_of
from frostline.training.supervised.blueprint import structure_of

if TYPE_CHECKING:
    from torch import nn

    from frostline.layers import LayerStack

# Of models with as many structures as configurations nothing is gained.
_MOST = 64


class KnownLayers:
    """The layers of one task's models.

    Models are alike that have the same modules and parameters, under the same names and tied in the same way, of which the
    same require a gradient, and the same plain attributes. What else may lead a forward pass another way is not seen, such
    as an object of one's own that a module keeps.
    """

    def __init__(self) -> None:
        self._known: dict[str, LayerStack] = {}

    def of(self, model: nn.Module, split: Callable[[], LayerStack]) -> LayerStack:
        """Return the layers of ``model``: what ``split`` returned for the first that was like it."""
        likeness = _likeness(model)
        if likeness is None:
            return split()
        if likeness not in self._known:
            if len(self._known) == _MOST:
                self._known.clear()
            self._known[likeness] = split()
        return self._known[likeness]


def _likeness(model: nn.Module) -> str | None:
    """Return what models have in common that are alike; None for one that is not whole yet."""
    parameters = [parameter for _, parameter in model.named_parameters(remove_duplicate=False)]
    if any(map(is_lazy, parameters)):
        return None
    facts = (
        structure_of(model),
        places_of(parameters),
        [each.requires_grad for each in parameters],
        plain_attributes(model),
    )
    return hashlib.sha256(repr(facts).encode()).hexdigest()
