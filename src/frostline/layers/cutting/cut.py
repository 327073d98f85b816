"""Where a model is cut: its layers, and how many of them are trained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torch import nn

from frostline.layers.stack import Layer, LayerStack, Tie


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """A model of which the last ``trainable_layers`` of ``stack`` are trained and the others frozen."""

    model: nn.Module
    stack: LayerStack
    trainable_layers: int

    @property
    def boundary(self) -> int:
        """The index of the first trained layer."""
        return self.stack.num_layers - self.trainable_layers

    @property
    def frozen_layers(self) -> tuple[Layer, ...]:
        """The layers that keep their weights, input first."""
        return self.stack.prefix(self.trainable_layers)

    @property
    def trained_layers(self) -> tuple[Layer, ...]:
        """The layers that are trained, input first."""
        return self.stack.suffix(self.trainable_layers)

    @property
    def crossing_ties(self) -> tuple[Tie, ...]:
        """The ties between a frozen and a trained layer."""
        return self.stack.crossing_ties(self.trainable_layers)

    @property
    def trained_ids(self) -> set[int]:
        """The identities of the parameters that trained layers own."""
        return {id(self.model.get_parameter(name)) for layer in self.trained_layers for name in layer.parameters}

    def modules_of(self, layers: Iterable[Layer]) -> list[nn.Module]:
        """Return the outermost modules of some of the layers; one with several names comes as often."""
        return [*self.named_modules_of(layers).values()]

    def named_modules_of(self, layers: Iterable[Layer]) -> dict[str, nn.Module]:
        """Return the outermost modules of some of the layers by their names."""
        return {name: self.model.get_submodule(name) for name in module_names(layers)}


def module_names(layers: Iterable[Layer]) -> Iterator[str]:
    """Yield the names of the layers' outermost modules."""
    return (name for layer in layers for name in layer.modules)
