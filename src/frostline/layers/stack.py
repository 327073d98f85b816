"""What a model's layers are, as plain data: names and counts, no tensors.

A stack made from one model fits every other model of the same architecture, can be compared, printed and pickled, and
goes into the fingerprint of a study.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, overload

from frostline.errors import FidelityError
from frostline.text_tables import html_table
from frostline.wording import counted

_HEADER = ("trained from", "layer", "modules", "parameters", "tied to")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One step of the layer fidelity.

    ``modules`` are the names (as in ``model.named_modules()``) of the outermost modules that belong to it.
    ``parameters`` are the parameters it owns: every parameter of a model is owned by exactly one layer, a tied one by
    the last layer that uses it, because it is trained as soon as that layer is. ``num_parameters`` counts their elements.
    """

    name: str
    modules: tuple[str, ...]
    parameters: tuple[str, ...]
    num_parameters: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tie:
    """A weight that several layers use.

    ``names`` are the names of the weight, in the order of ``layers``, which are the indices of the layers, rising.
    ``kind``: "parameter" is one ``nn.Parameter`` under several names, "storage" are parameters that share memory, "use"
    is a weight that a second layer takes without holding it (found only with example inputs).
    """

    names: tuple[str, ...]
    layers: tuple[int, ...]
    kind: Literal["parameter", "storage", "use"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerStack:
    """The layers of a model, input first, and the weights that are tied between them."""

    layers: tuple[Layer, ...]
    ties: tuple[Tie, ...] = ()

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    @overload
    def __getitem__(self, index: int) -> Layer: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Layer, ...]: ...
    def __getitem__(self, index: int | slice) -> Layer | tuple[Layer, ...]:
        return self.layers[index]

    @property
    def num_layers(self) -> int:
        """The highest number of trainable layers."""
        return len(self.layers)

    @property
    def names(self) -> tuple[str, ...]:
        """The layers' names, input first."""
        return tuple(layer.name for layer in self.layers)

    @property
    def num_parameters(self) -> int:
        """The elements of all parameters, tied ones counted once."""
        return sum(layer.num_parameters for layer in self.layers)

    def check(self, trainable_layers: int) -> None:
        """Raise FidelityError unless ``trainable_layers`` is a whole number in 1..num_layers."""
        allowed = f"this model has {self.num_layers} layers, so it must be a whole number in 1..{self.num_layers}"
        if isinstance(trainable_layers, bool) or not isinstance(trainable_layers, int):
            raise FidelityError(f"trainable_layers is {trainable_layers!r}, but {allowed}.")
        if not 1 <= trainable_layers <= self.num_layers:
            raise FidelityError(f"trainable_layers is {trainable_layers}, but {allowed}.")

    def prefix(self, trainable_layers: int) -> tuple[Layer, ...]:
        """The layers that are frozen when the last ``trainable_layers`` are trained."""
        self.check(trainable_layers)
        return self.layers[: self.num_layers - trainable_layers]

    def suffix(self, trainable_layers: int) -> tuple[Layer, ...]:
        """The layers that are trained: the last ``trainable_layers``."""
        self.check(trainable_layers)
        return self.layers[self.num_layers - trainable_layers :]

    def num_trainable_parameters(self, trainable_layers: int) -> int:
        """The elements of all parameters that the last ``trainable_layers`` own."""
        return sum(layer.num_parameters for layer in self.suffix(trainable_layers))

    def crossing_ties(self, trainable_layers: int) -> tuple[Tie, ...]:
        """The ties between a frozen and a trained layer."""
        boundary = self.num_layers - len(self.suffix(trainable_layers))
        return tuple(tie for tie in self.ties if tie.layers[0] < boundary <= tie.layers[-1])

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with the layers, their parameters, their sizes or their ties."""
        return hashlib.sha256(repr((self.layers, self.ties)).encode()).hexdigest()[:16]

    def rows(self) -> list[tuple[str, str, str, str, str]]:
        """The stack as a table, output last: trainable layers, name, modules, parameters, ties.

        The first column is the number of trainable layers at which this layer begins to be trained.
        """
        rows = []
        for index, layer in enumerate(self.layers):
            partners = (
                other for tie in self.ties if index in tie.layers for other in tie.layers if other != index
            )
            tied = ", ".join(self.layers[other].name for other in dict.fromkeys(partners))
            modules = _shortened(layer.modules)
            rows.append((str(self.num_layers - index), layer.name, modules, f"{layer.num_parameters:,}", tied))
        return rows

    def __str__(self) -> str:
        table = [_HEADER, *self.rows()]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = []
        for row in table:
            cells = [
                cell.rjust(width) if column in (0, 3) else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            lines.append("  ".join(cells).rstrip())
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """The table, for notebooks."""
        caption = f"{counted(self.num_layers, 'layer')}, {self.num_parameters:,} parameters"
        return html_table([_HEADER, *self.rows()], caption=caption)


def _shortened(names: Sequence[str]) -> str:
    if len(names) > 3:
        return f"{names[0]}, ... {names[-1]} ({len(names)})"
    return ", ".join(name or "(the model)" for name in names)
