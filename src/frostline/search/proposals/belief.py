"""Configurations drawn near values that a user believes in, as far as what is found bears that out.

Half of them are drawn from the whole space, whatever is believed. The other half are drawn near the belief or near the best
configuration there is, in the proportion in which the two explain where good configurations lie. So a belief that is
wrong costs little, and one that is right is soon joined by what is found around it.
Source: PriorBand (Mallik et al., 2023, arXiv 2306.12370), as at its lowest rung.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection

from frostline.search.spaces.dimensions import is_choice

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna.study import Study
    from optuna.trial import FrozenTrial

    from frostline.records import Value

# The share of configurations that are drawn from the whole space.
_ANYWHERE = 0.5

# Of a range on its scale: the standard deviation of what is drawn near a value. A quarter finds less (decision 36).
_SPREAD = 0.15

# How many are compared at a rung at least, and which share of them counts as good.
_FEWEST, _GOOD = 6, 1 / 3


class BeliefSampler(BaseSampler):
    """An Optuna sampler of one draw: see the module."""

    def __init__(self, seed: int, *, values: Mapping[str, Value]) -> None:
        self._random = Random(seed)  # noqa: S311 no secrets
        self._values = values

    def infer_relative_search_space(self, _study: Study, _trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return nothing: who asks for values says of which distributions."""
        return {}

    def sample_relative(
        self, study: Study, _trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return values for ``search_space``."""
        belief = _Neighbourhood({name: self._values[name] for name in search_space if name in self._values})
        centre: _Neighbourhood | None = None
        if self._random.random() >= _ANYWHERE:
            centre = belief
            good = _good_ones(study, search_space)
            if good:
                best = _Neighbourhood({name: good[0][name] for name in search_space})
                explained = [_explained(each, good, search_space) for each in (belief, best)]
                centre = self._random.choices([belief, best], weights=explained)[0]
        return {
            name: _anywhere(self._random, distribution)
            if centre is None or name not in centre.values
            else _drawn_near(self._random, distribution, centre.values[name])
            for name, distribution in search_space.items()
        }

    def sample_independent(
        self, _study: Study, _trial: FrozenTrial, _name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return a value from all of a distribution."""
        return _anywhere(self._random, param_distribution)


@dataclass(frozen=True, slots=True)
class _Neighbourhood:
    """Where values are drawn near others, those of some hyperparameters."""

    values: Mapping[str, Value]

    def density(self, row: Mapping[str, Value], space: Mapping[str, BaseDistribution]) -> float:
        """Return the density of ``row``, where the whole space has a density of 1."""
        return math.prod(_density(space[name], row[name], centre) for name, centre in self.values.items())


def _good_ones(study: Study, space: Mapping[str, BaseDistribution]) -> list[Mapping[str, Value]]:
    """Return the best third of the highest rung where enough can be compared, the best first; none if there is none."""
    sign = 1 if study.direction == StudyDirection.MINIMIZE else -1
    by_rung: dict[int, list[tuple[float, int, Mapping[str, Value]]]] = {}
    for trial in study.get_trials(deepcopy=False):
        for rung, score in trial.intermediate_values.items():
            if math.isfinite(score) and space.keys() <= trial.params.keys():
                by_rung.setdefault(rung, []).append((sign * score, trial.number, trial.params))
    for rung in sorted(by_rung, reverse=True):
        if len(by_rung[rung]) >= _FEWEST:
            ranked = sorted(by_rung[rung], key=lambda each: each[:2])
            return [row for *_, row in ranked[: max(2, int(len(ranked) * _GOOD))]]
    return []


def _explained(
    near: _Neighbourhood, good: Sequence[Mapping[str, Value]], space: Mapping[str, BaseDistribution]
) -> float:
    """Return how well a neighbourhood explains where the good ones lie: their densities, the better ones counted more."""
    weights = range(len(good), 0, -1)
    return sum(weight * near.density(row, space) for weight, row in zip(weights, good, strict=True))


def _anywhere(random: Random, distribution: BaseDistribution) -> Value:
    if isinstance(distribution, CategoricalDistribution):
        return random.choice(distribution.choices)
    return _value_at(distribution, random.random())


def _drawn_near(random: Random, distribution: BaseDistribution, centre: Value) -> Value:
    if isinstance(distribution, CategoricalDistribution):
        stays = random.random() < _ANYWHERE
        return centre if stays else random.choice(distribution.choices)
    normal = NormalDist(_position(distribution, centre), _SPREAD)
    low, high = normal.cdf(0.0), normal.cdf(1.0)
    return _value_at(distribution, min(max(normal.inv_cdf(low + (high - low) * random.random()), 0.0), 1.0))


def _density(distribution: BaseDistribution, value: Value, centre: Value) -> float:
    if isinstance(distribution, CategoricalDistribution):
        stays = len(distribution.choices) * _ANYWHERE if is_choice(value, centre) else 0.0
        return stays + 1 - _ANYWHERE
    normal = NormalDist(_position(distribution, centre), _SPREAD)
    return normal.pdf(_position(distribution, value)) / (normal.cdf(1.0) - normal.cdf(0.0))


def _position(distribution: BaseDistribution, value: Value) -> float:
    """Return where a number lies on its range's own scale, from 0 to 1."""
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    assert isinstance(value, int | float)
    low, high, here = float(distribution.low), float(distribution.high), float(value)
    if distribution.log:
        low, high, here = math.log(low), math.log(high), math.log(here)
    return (here - low) / (high - low)


def _value_at(distribution: BaseDistribution, position: float) -> Value:
    """Return the number of a range at a position on its scale: the nearest that can be drawn."""
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    whole = isinstance(distribution, IntDistribution)
    low, high = float(distribution.low), float(distribution.high)
    if distribution.log:
        # Whole numbers have equal shares of the scale if each reaches half a step beyond itself.
        edges = (low - 0.5, high + 0.5) if whole else (low, high)
        value = math.exp(math.log(edges[0]) + position * math.log(edges[1] / edges[0]))
    elif distribution.step is not None:
        steps = round((high - low) / distribution.step)
        value = low + distribution.step * min(int(position * (steps + 1)), steps)
    else:
        value = low + position * (high - low)
    value = min(max(value, low), high)
    return round(value) if whole else value
