"""What a rung trains in place of a configuration: its hyperparameters times factors that go with the number of layers.

With few trained layers the best learning rate lies elsewhere than with all. A search is about configurations at full
fidelity; a lower rung that trains them at another rate, by the same factor for all, may rank them better.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from frostline.errors import AlignmentError

if TYPE_CHECKING:
    from frostline.records import Configuration, Fidelity, Value
    from frostline.search.space import SearchSpace


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """By how much hyperparameters are multiplied where only so many layers are trained. Empty, it changes nothing.

    The factors go with the layers alone, so that a rung which continues the one below trains on as it began. What is trained
    may lie outside the search space: the space is that of full training. Full trainings are never changed.
    Raises: AlignmentError if a factor is not a number above 0.
    """

    factors: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    """By the number of trained layers, then by the hyperparameter's name."""

    def __post_init__(self) -> None:
        for layers, of_layers in self.factors.items():
            for name, factor in of_layers.items():
                if not (factor > 0 and math.isfinite(factor)):
                    raise AlignmentError(
                        f"the factor of {name} at {layers} layers is {factor}, but must be a number above 0."
                    )
        # Factors of 1 change nothing: without them equal alignments are equal.
        told = {
            layers: MappingProxyType({name: of_layers[name] for name in sorted(of_layers) if of_layers[name] != 1})
            for layers, of_layers in sorted(self.factors.items())
        }
        object.__setattr__(
            self, "factors", MappingProxyType({layers: named for layers, named in told.items() if named})
        )

    @classmethod
    def parse(cls, text: str) -> Alignment:
        """Return the alignment that a text such as "1:learning_rate=10,weight_decay=2;2:learning_rate=3" stands for.

        Raises: AlignmentError if it is no such text.
        """
        factors: dict[int, dict[str, float]] = {}
        try:
            for part in filter(None, text.replace(" ", "").split(";")):
                layers, _, values = part.partition(":")
                pairs = (value.rsplit("=", 1) for value in values.split(","))
                factors[int(layers)] = {name: float(factor) for name, factor in pairs}
        except ValueError:
            raise AlignmentError(
                f"the alignment {text!r} is none: write layers, names and factors, such as "
                f"'1:learning_rate=10;2:learning_rate=3'."
            ) from None
        return cls(factors=factors)

    def __str__(self) -> str:
        """Such as "1:learning_rate=10;2:learning_rate=3": what ``parse`` reads."""
        return ";".join(
            f"{layers}:{','.join(f'{name}={_text(factor)}' for name, factor in of_layers.items())}"
            for layers, of_layers in self.factors.items()
        )

    @property
    def is_identity(self) -> bool:
        """Whether it changes nothing."""
        return not self.factors

    def check(self, space: SearchSpace, *, num_layers: int) -> None:
        """Check that this is an alignment for a model of ``num_layers`` and configurations of ``space``.

        Raises: AlignmentError if it would change full trainings, or something that is no float on a logarithmic range.
        """
        for layers, of_layers in self.factors.items():
            if not 1 <= layers < num_layers:
                raise AlignmentError(
                    f"the alignment changes trainings of {layers} layers, but may change those of 1 to {num_layers - 1}: "
                    f"full ones are what the search is about."
                )
            for name in of_layers:
                if name not in space.scales:
                    scales = ", ".join(space.scales) or "none"
                    raise AlignmentError(
                        f"the alignment multiplies {name}, but only floats on a logarithmic range can be: {scales} here."
                    )

    def aligned(self, configuration: Configuration, fidelity: Fidelity) -> Configuration:
        """Return what is trained at ``fidelity`` in place of ``configuration``: itself where nothing is changed."""
        changed = self.changed(configuration, fidelity)
        if not changed:
            return configuration
        return replace(configuration, hyperparameters={**configuration.hyperparameters, **changed})

    def changed(self, configuration: Configuration, fidelity: Fidelity) -> dict[str, Value]:
        """Return the hyperparameters that are trained at other values, with these values."""
        of_layers = self.factors.get(fidelity.trainable_layers, {})
        return {name: _number(configuration[name]) * factor for name, factor in of_layers.items()}


IDENTITY = Alignment()
"""Trains every configuration as it is."""


def _text(factor: float) -> str:
    short = f"{factor:g}"
    return short if float(short) == factor else repr(float(factor))


def _number(value: Value) -> float:
    assert isinstance(value, float | int), f"{value!r} cannot be multiplied"
    return float(value)
