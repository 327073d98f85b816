"""Hyperparameters in the order in which an objective asks for them, in Optuna's words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import RandomSampler

from frostline.errors import ObjectiveError
from frostline.search.spaces.dimensions import check_dimension, check_hyperparameter
from frostline.search.spaces.space import holds
from frostline.seeding import derive_seed

if TYPE_CHECKING:
    from frostline.records import Value

# NumPy's legacy generator, which Optuna's samplers use, takes seeds of 32 bits.
_NUM_SEEDS = 2**32


@dataclass(slots=True, kw_only=True)
class Suggestions:
    """What an objective asked for, and what it was given: each hyperparameter has one value in a trial."""

    values: Mapping[str, Value]
    """Known before. What is asked for and is not among them, or no longer allowed, is drawn by ``seed`` and its name."""
    seed: int
    given: dict[str, Value] = field(default_factory=dict)
    distributions: dict[str, BaseDistribution] = field(default_factory=dict)

    def value(self, name: str, distribution: BaseDistribution) -> Any:
        """Return the value of hyperparameter ``name``.

        Raises: ObjectiveError if it was asked for with another range before, in the same trial; SearchSpaceError for a
            name or a choice that no study can hold.
        """
        if name in self.given:
            if self.distributions[name] != distribution:
                raise ObjectiveError(
                    f"the objective asks for {name!r} twice, with {self.distributions[name]} and then with {distribution}: "
                    f"use two names."
                )
            return self.given[name]
        # Those of the space were looked at before; this one may be no part of it.
        check_hyperparameter(name)
        if isinstance(distribution, CategoricalDistribution):
            check_dimension(name, distribution)
        if name in self.values and holds(distribution, self.values[name]):
            value = self.values[name]
        else:
            value = self.drawn(name, distribution)
        self.given[name], self.distributions[name] = value, distribution
        return value

    def drawn(self, name: str, distribution: BaseDistribution) -> Value:
        """Return a random value, always the same one for this seed and name."""
        sampler = RandomSampler(seed=derive_seed(self.seed, name) % _NUM_SEEDS)
        # It looks at neither a study nor a trial.
        drawn: Value = sampler.sample_independent(None, None, name, distribution)  # type: ignore[arg-type]
        return drawn


class MiddleFirst(Suggestions):
    """Gives the middle of every range, and of choices the first one."""

    def drawn(self, name: str, distribution: BaseDistribution) -> Value:
        """Return the value in the middle, on the range's own scale."""
        match distribution:
            case CategoricalDistribution():
                first: Value = distribution.choices[0]
                return first
            case FloatDistribution(log=True):
                return float((distribution.low * distribution.high) ** 0.5)
            case FloatDistribution(step=None):
                return (distribution.low + distribution.high) / 2
            case IntDistribution(log=True):
                return int((distribution.low * distribution.high) ** 0.5)
            case FloatDistribution() | IntDistribution():
                assert distribution.step is not None
                steps = (distribution.high - distribution.low) / distribution.step
                return distribution.low + int(steps / 2) * distribution.step
            case _:
                raise AssertionError(f"{name}: {distribution}")
