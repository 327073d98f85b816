"""Search spaces: named Optuna distributions, declared in Python, or in TOML for the command line."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from frostline.errors import SearchSpaceError
from frostline.inputs.whole_numbers import MOST_CONFIGURATIONS, shown
from frostline.search.spaces.dimensions import (
    check_dimension,
    grid_values,
    is_choice,
    num_values,
    read_dimension,
    toml_string,
    write_dimension,
)

if TYPE_CHECKING:
    from frostline.records import Value


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSpace:
    """What is tuned: a distribution for every hyperparameter. Their order does not change what is drawn.

    Raises: SearchSpaceError if there is none, or one of them leaves nothing to choose.
    """

    distributions: Mapping[str, BaseDistribution]

    def __post_init__(self) -> None:
        if not self.distributions:
            raise SearchSpaceError(
                "the search space is empty, but it must hold at least one hyperparameter: declare a distribution "
                "for each that is to be tuned."
            )
        for name, distribution in self.distributions.items():
            check_dimension(name, distribution)
        object.__setattr__(self, "distributions", MappingProxyType(dict(self.distributions)))

    @classmethod
    def from_toml(cls, text: str) -> SearchSpace:
        """Return the space that the table ``space`` of a TOML text declares, one table for each hyperparameter.

        A range is ``low``, ``high`` and, if wanted, ``log = true`` or ``step``; it is of whole numbers if its
        numbers are, unless ``type`` says "int" or "float". Anything else is ``choices``::

            [space.learning_rate]
            low = 1e-4
            high = 1e-1
            log = true

            [space.optimizer]
            choices = ["adamw", "sgd"]

        Raises: SearchSpaceError if the text is no TOML, or declares no search space.
        """
        try:
            tables = tomllib.loads(text).get("space")
        # Not only TOMLDecodeError: of thousands of digits, and of thousands of brackets, Python itself complains.
        except (ValueError, RecursionError) as error:
            raise SearchSpaceError(f"the search space is not TOML: {error}; correct it there.") from None
        if not isinstance(tables, dict):
            raise SearchSpaceError(
                "the TOML text has no table `space`: declare each hyperparameter in a table of its own, such as "
                "[space.learning_rate]."
            )
        return cls(distributions={name: read_dimension(name, table) for name, table in tables.items()})

    def to_toml(self) -> str:
        """Return the text from which ``from_toml`` makes this space again.

        Raises: SearchSpaceError if a choice is None, for which TOML has no word.
        """
        return "\n".join(
            f"[space.{toml_string(name)}]\n{write_dimension(name, distribution)}"
            for name, distribution in self.distributions.items()
        )

    @property
    def scales(self) -> dict[str, float]:
        """The hyperparameters of which factors mean the same everywhere, floats on a logarithmic range: its decades."""
        return {
            name: math.log10(distribution.high / distribution.low)
            for name, distribution in self.distributions.items()
            if isinstance(distribution, FloatDistribution) and distribution.log
        }

    @property
    def num_points(self) -> int | None:
        """How many different configurations there are; None if no study could hold them all."""
        numbers = [num_values(distribution) for distribution in self.distributions.values()]
        known = [number for number in numbers if number is not None]
        total = math.prod(known)
        return total if len(known) == len(numbers) and total <= MOST_CONFIGURATIONS else None

    @property
    def fingerprint(self) -> str:
        """A string that changes when what can be drawn does: one line, hyperparameters in alphabetical order."""
        return "; ".join(f"{name}: {_describe(self.distributions[name])}" for name in sorted(self.distributions))

    def validate(self, values: Mapping[str, Value], *, partly: bool = False) -> None:
        """Check that ``values`` are a configuration of this space, or a part of one.

        Raises: SearchSpaceError if one is missing, is unknown, or cannot be drawn.
        """
        names = ", ".join(self.distributions)
        for name in values:
            if name not in self.distributions:
                raise SearchSpaceError(f"the search space has no {name!r}; it has {names}: use these names.")
        for name, distribution in self.distributions.items():
            if name not in values:
                if partly:
                    continue
                raise SearchSpaceError(f"{name!r} has no value; give one to each of {names}.")
            if not holds(distribution, values[name]):
                raise SearchSpaceError(
                    f"{name} is {values[name]!r}, but the search space allows {_describe(distribution)}: choose "
                    "such a value, or widen the space."
                )

    def grid(self, num_points: int) -> dict[str, tuple[Value, ...]]:
        """Return the values of a full grid: all choices, and ``num_points`` of each range.

        They are evenly spaced on the range's scale, and hold both ends. A range of whole or stepped numbers that
        has fewer gives those it has.
        Raises: SearchSpaceError if ``num_points`` is below 2, or the grid has more points than a study can hold.
        """
        if num_points < 2:
            raise SearchSpaceError(
                f"num_points is {num_points}, but a grid has at least the 2 ends of each range: use 2 or more."
            )
        if num_points > MOST_CONFIGURATIONS:
            raise SearchSpaceError(
                f"num_points is {shown(num_points)}, but a grid may have {MOST_CONFIGURATIONS:,} points at most: use fewer."
            )
        values = {name: grid_values(distribution, num_points) for name, distribution in self.distributions.items()}
        if (num_in_all := math.prod(map(len, values.values()))) > MOST_CONFIGURATIONS:
            raise SearchSpaceError(
                f"the grid has {num_in_all:,} points, but may have {MOST_CONFIGURATIONS:,} at most: use fewer for each "
                f"range."
            )
        return values

    def __str__(self) -> str:
        """One line for each hyperparameter."""
        return "\n".join(f"{name}: {_describe(distribution)}" for name, distribution in self.distributions.items())

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __reduce__(self) -> tuple[Any, ...]:
        # A read-only view of a dictionary cannot be pickled, so the dictionary is.
        return partial(SearchSpace, distributions=dict(self.distributions)), ()


def _describe(distribution: BaseDistribution) -> str:
    if isinstance(distribution, CategoricalDistribution):
        return f"one of {json.dumps(distribution.choices)}"
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    whole = isinstance(distribution, IntDistribution)
    text = f"{'int' if whole else 'float'} from {distribution.low!r} to {distribution.high!r}"
    if distribution.log:
        return f"{text}, log"
    if distribution.step is None or (whole and distribution.step == 1):
        return text
    return f"{text}, step {distribution.step!r}"


def holds(distribution: BaseDistribution, value: Value) -> bool:
    """Return whether ``value`` can be drawn from ``distribution``."""
    if isinstance(distribution, CategoricalDistribution):
        return any(is_choice(value, choice) for choice in distribution.choices)
    allowed = int if isinstance(distribution, IntDistribution) else (int, float)
    if isinstance(value, bool) or not isinstance(value, allowed) or not math.isfinite(value):
        return False
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    if not distribution.low <= value <= distribution.high:
        return False
    if distribution.step is None:
        return True
    steps = (value - distribution.low) / distribution.step
    # The tolerance is Optuna's own: values on a grid of steps are rounded.
    return abs(steps - round(steps)) < 1e-8


def space_of(given: SearchSpace | Mapping[str, BaseDistribution]) -> SearchSpace:
    """Return the space that is given, or that of a mapping of names to distributions. Raises: SearchSpaceError."""
    if isinstance(given, SearchSpace):
        return given
    if isinstance(given, Mapping) and all(isinstance(value, BaseDistribution) for value in given.values()):
        return SearchSpace(distributions=given)
    raise SearchSpaceError(
        f"the space is {shown(given)}, but must be a frostline.SearchSpace, or a mapping of names to distributions of "
        f"optuna.distributions, such as FloatDistribution(1e-4, 1e-1, log=True)."
    )
