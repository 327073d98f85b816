"""What a rung trains in place of a configuration: its hyperparameters times factors that go with the number of layers.

With few trained layers the best learning rate lies elsewhere than with all. A search is about configurations at full
fidelity; a lower rung that trains them at another rate, by the same factor for all, may rank them better. The head may want
another factor than the blocks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from frostline.errors import AlignmentError
from frostline.inputs.whole_numbers import parse_whole
from frostline.records import HEAD
from frostline.seeding import derive_seed
from frostline.wording import counted

if TYPE_CHECKING:
    from frostline.records import Configuration, Fidelity, Value
    from frostline.search.spaces.space import SearchSpace

_BETWEEN = ".."
_LARGEST_FACTOR = 1e6


@dataclass(frozen=True, slots=True)
class Span:
    """Factors from ``low`` to ``high``, of which every configuration gets one, evenly by their logarithms.

    Raises: AlignmentError if ``high`` is not above ``low``.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise AlignmentError(
                f"the factors go from {self.low:g} to {self.high:g}, but must rise: write the smaller first."
            )

    def of(self, configuration: Configuration, name: str) -> float:
        """Return the factor of one configuration, which goes by its number and the hyperparameter's name."""
        share = derive_seed(configuration.number, "factor", name) / 2**63
        return self.low * math.exp(share * math.log(self.high / self.low))

    def __str__(self) -> str:
        return f"{_text(self.low)}{_BETWEEN}{_text(self.high)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """By how much hyperparameters are multiplied where only so many layers are trained. Empty, it changes nothing.

    The factors go with the layers alone, so that a rung which continues the one below trains on as it began. What is trained
    may lie outside the search space: the space is that of full training. Full trainings are never changed.

    "head.learning_rate" is the learning rate of the last layer alone, and so for every hyperparameter of the optimizer: the
    configuration's own times this factor, whatever the other layers train with.
    Raises: AlignmentError if a factor is not a number from a millionth to a million.
    """

    factors: Mapping[int, Mapping[str, float | Span]] = field(default_factory=dict)
    """By the number of trained layers, then by the hyperparameter's name."""

    def __post_init__(self) -> None:
        for layers, of_layers in self.factors.items():
            for name, factor in of_layers.items():
                ends = (factor.low, factor.high) if isinstance(factor, Span) else (factor,)
                if not all(1 / _LARGEST_FACTOR <= end <= _LARGEST_FACTOR for end in ends):
                    raise AlignmentError(
                        f"the factor of {name} at {counted(layers, 'layer')} is {factor}, but must be a number above 0, "
                        f"from {1 / _LARGEST_FACTOR:g} to {_LARGEST_FACTOR:g}."
                    )
        # Without those that change nothing equal alignments are equal.
        changing = {
            layers: MappingProxyType(
                {name: of_layers[name] for name in sorted(of_layers) if _changes(name, of_layers)}
            )
            for layers, of_layers in sorted(self.factors.items())
        }
        object.__setattr__(
            self, "factors", MappingProxyType({layers: named for layers, named in changing.items() if named})
        )

    @classmethod
    def parse(cls, text: str) -> Alignment:
        """Return the alignment that a text stands for, such as "1:learning_rate=10,weight_decay=2;2:head.learning_rate=3".

        "1:learning_rate=0.3..30" draws a factor for each configuration.
        Raises: AlignmentError if it is no such text.
        """
        factors: dict[int, dict[str, float | Span]] = {}
        try:
            for part in filter(None, text.replace(" ", "").split(";")):
                layers, _, values = part.partition(":")
                number = parse_whole("layers", layers)
                if number in factors:
                    raise AlignmentError(
                        f"the alignment {text!r} names {counted(number, 'layer')} twice: write the factors of one number "
                        f"of layers together, as in '1:learning_rate=10,weight_decay=2'."
                    )
                factors[number] = {}
                for name, factor in (value.rsplit("=", 1) for value in values.split(",")):
                    if name in factors[number]:
                        raise AlignmentError(
                            f"the alignment {text!r} names {name} twice: write one factor for it."
                        )
                    factors[number][name] = _factor(factor)
        except AlignmentError:
            raise
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

    @property
    def draws(self) -> bool:
        """Whether each configuration gets other factors: to learn from, for what is trained so cannot be ranked."""
        return any(
            isinstance(factor, Span) for of_layers in self.factors.values() for factor in of_layers.values()
        )

    def check(self, space: SearchSpace, *, num_layers: int) -> None:
        """Check that this is an alignment for a model of ``num_layers`` and configurations of ``space``.

        Raises: AlignmentError if it would change full trainings, or something that is no float on a logarithmic range.
        """
        for layers, of_layers in self.factors.items():
            if not 1 <= layers < num_layers:
                raise AlignmentError(
                    f"the alignment changes trainings of {counted(layers, 'layer')}, but may change those of 1 to "
                    f"{num_layers - 1}: full ones are what the search is about."
                )
            for name in of_layers:
                if name in space.scales:
                    continue
                if not is_of_head(name, space):
                    scales = ", ".join(space.scales) or "none"
                    raise AlignmentError(
                        f"the alignment multiplies {name}, but only floats on a logarithmic range can be, or those of the "
                        f"head, as {HEAD}NAME: {scales} here."
                    )
                if layers == 1:
                    raise AlignmentError(
                        f"the alignment multiplies {name} where the head is all that is trained: write "
                        f"{name.removeprefix(HEAD)}."
                    )

    def aligned(self, configuration: Configuration, fidelity: Fidelity) -> Configuration:
        """Return what is trained at ``fidelity`` in place of ``configuration``: itself where nothing is changed."""
        changed = self.changed(configuration, fidelity)
        if not changed:
            return configuration
        of_all = {name: value for name, value in changed.items() if name in configuration}
        of_head = {name.removeprefix(HEAD): value for name, value in changed.items() if name not in configuration}
        return replace(configuration, hyperparameters={**configuration.hyperparameters, **of_all}, head=of_head)

    def changed(self, configuration: Configuration, fidelity: Fidelity) -> dict[str, Value]:
        """Return the hyperparameters that are trained at other values, with these values."""
        changed: dict[str, Value] = {}
        for name, factor in self.factors.get(fidelity.trainable_layers, {}).items():
            own = configuration[name if name in configuration else name.removeprefix(HEAD)]
            changed[name] = _number(own) * (factor.of(configuration, name) if isinstance(factor, Span) else factor)
        return changed


IDENTITY = Alignment()
"""Trains every configuration as it is."""


def is_of_head(name: str, space: SearchSpace) -> bool:
    """Return whether ``name`` is that of a scale of ``space`` for the head alone."""
    return name not in space.scales and name.startswith(HEAD) and name.removeprefix(HEAD) in space.scales


def _changes(name: str, of_layers: Mapping[str, float | Span]) -> bool:
    # A factor of 1 keeps the head as it is where the other layers are not.
    return of_layers[name] != 1 or of_layers.get(name.removeprefix(HEAD), 1) != 1


def _factor(text: str) -> float | Span:
    if not text.isascii():
        raise ValueError("digits of other scripts")
    low, between, high = text.partition(_BETWEEN)
    return Span(float(low), float(high)) if between else float(text)


def _text(factor: float | Span) -> str:
    if isinstance(factor, Span):
        return f"{factor}"
    short = f"{factor:g}"
    return short if float(short) == factor else repr(float(factor))


def _number(value: Value) -> float:
    assert isinstance(value, float | int), f"{value!r} cannot be multiplied"
    return float(value)
