"""Which values a new configuration gets: Optuna's own samplers, seeded so that a resumed search draws the same."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

from optuna.distributions import CategoricalDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    GridSampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.trial import TrialState, create_trial

from frostline.errors import OptionError, SearchSpaceError
from frostline.inputs.whole_numbers import shown
from frostline.records import Configuration, Direction, Value
from frostline.search.proposals.belief import BeliefSampler
from frostline.search.proposals.mirror import Learning, Mirror, private_study, sampled_alone, without
from frostline.seeding import derive_seed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from frostline.search.history import History
    from frostline.search.spaces.space import SearchSpace

# numpy's legacy generator, which Optuna's samplers use, takes seeds of 32 bits.
_NUM_SEEDS = 2**32

# Seeding that generator takes as long as drawing a configuration, so independent draws share a stream in blocks:
# short enough that the start of one is soon drawn again when a search is continued in its middle.
_DRAWS_PER_STREAM = 64

# Of a space's points so many times as many are drawn in vain, one after the other, before one comes twice.
_MOST_REPEATS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How to draw: which of Optuna's samplers, and what it learns from.

    ``build`` makes the sampler from a seed: one that follows a sequence or a grid once for a whole search, one
    that learns anew for every draw, from a seed of that draw's own.
    """

    name: str
    build: Callable[[int], BaseSampler]
    learning: Learning
    num_points: int | None = None
    """How many points the grid has that it draws from; None: it draws from whole spaces."""
    believed: Mapping[str, Value] = field(default_factory=dict)
    """The values that it draws near, of hyperparameters that the space must have."""

    def num_different(self, space: SearchSpace) -> int | None:
        """Return how many configurations of ``space`` are drawn before any comes twice; None if that is not known."""
        return space.num_points if self.learning is Learning.NOTHING else self.num_points


class Draws:
    """The configurations of one search.

    What is drawn depends on the root seed and on what the history holds, alone: a search that was killed draws
    what an undisturbed one would have drawn. The first configurations are ``initial``. Where ``costs_count``, samplers that
    learn are shown what models cost too, to fall; a belief is about the score alone. Drawn independently, none comes twice
    before all have come.
    Raises: SearchSpaceError if an initial configuration is not of the space, or the space has nothing that the
    sampler can draw; OptionError if the sampler lacks a package.
    """

    def __init__(
        self,
        *,
        space: SearchSpace,
        sampling: Sampling,
        root_seed: int,
        direction: Direction,
        initial: Sequence[Mapping[str, Value]] = (),
        costs_count: bool = False,
    ) -> None:
        for values in initial:
            space.validate(values)
        space.validate(sampling.believed, partly=True)
        self.space = space
        self.sampling = sampling
        self._root_seed = root_seed
        self._direction: Direction = direction
        self._initial = tuple(dict(values) for values in initial)
        # In alphabetical order, so that a space draws the same however it was written down.
        self._distributions = {name: space.distributions[name] for name in sorted(space.distributions)}
        if sampling.learning is Learning.RANKS:
            _check_numbers(space, sampling)
        self._sampler = sampling.build(self._seed("sequence"))
        self._study, self._storage = private_study(direction, self._sampler)
        self._trial = create_trial(state=TrialState.RUNNING)
        # The stream that the sampler follows, and how many were drawn of it; -1 before the first.
        self._stream, self._num_of_stream = -1, 0
        self._num_different = sampling.num_different(space)
        # Those that were drawn of few, each at its number, how far into the streams, and as what tells them apart.
        self._drawn = [*self._initial]
        self._position = len(self._drawn)
        self._known = {self._point(values) for values in self._drawn}
        self._num_repeats = 0
        learning, costs_count = sampling.learning, costs_count and not sampling.believed
        if costs_count:
            learning = Learning.ALIGNED
        self._mirror = Mirror(self._distributions, learning, direction, costs_count=costs_count)

    def draw(self, history: History) -> Configuration:
        """Return the configuration that comes next in ``history``, without adding it there.

        Raises: SearchSpaceError if all points of a grid have been drawn.
        """
        assert history.direction == self._direction, f"draws to {self._direction}, history to {history.direction}"
        number = len(history.configurations)
        state: Mapping[str, Any] = {}
        if number < len(self._initial):
            values = self._initial[number]
        elif self.sampling.learning is Learning.NOTHING:
            values = self._of_stream(number) if self._num_different is None else self._of_few(number)
        elif self.sampling.learning is Learning.SEQUENCE:
            values = self._of_sequence(number - len(self._initial))
        elif self.sampling.learning is Learning.GRID:
            values = self._of_grid(number - len(self._initial))
        else:
            sampler = self.sampling.build(self._seed("configurations", number))
            values, state = self._mirror.draw(sampler, history)
        ordered = {name: values[name] for name in self.space.distributions}
        return Configuration(number=number, hyperparameters=ordered, sampler_state=state)

    def _of_few(self, number: int) -> dict[str, Value]:
        """Return what the streams hold, without what came before as long as there is anything else."""
        most = self._num_different or 0
        while len(self._drawn) <= number:
            values = self._of_stream(self._position)
            self._position += 1
            point = self._point(values)
            self._num_repeats = self._num_repeats + 1 if point in self._known else 0
            # A value that rounding never draws is not waited for.
            if self._num_repeats == 0 or len(self._known) >= most or self._num_repeats > _MOST_REPEATS * most:
                self._known.add(point)
                self._drawn.append(values)
        return self._drawn[number]

    def _point(self, values: Mapping[str, Value]) -> tuple[Value, ...]:
        return tuple(values[name] for name in self._distributions)

    def _of_stream(self, position: int) -> dict[str, Value]:
        stream, within = divmod(position, _DRAWS_PER_STREAM)
        if self._stream != stream or self._num_of_stream > within:
            self._sampler = self.sampling.build(self._seed("configurations", stream))
            self._stream, self._num_of_stream = stream, 0
        # Others may have drawn what comes before: a stream is followed from where it was left.
        for _ in range(self._num_of_stream, within):
            sampled_alone(self._sampler, self._study, self._trial, self._distributions)
        self._num_of_stream = within + 1
        return sampled_alone(self._sampler, self._study, self._trial, self._distributions)

    def _of_sequence(self, position: int) -> dict[str, Value]:
        drawn = {name: one for name, one in self._distributions.items() if not one.single()}
        study_id = self._storage.get_study_id_from_name(self._study.study_name)
        if not self._storage.get_study_system_attrs(study_id):
            # The sampler counts its points in an attribute of the study, under a name of its own, and so tells us
            # that name.
            self._sampler.sample_relative(self._study, self._trial, drawn)
        for counter in self._storage.get_study_system_attrs(study_id):
            self._storage.set_study_system_attr(study_id, counter, position - 1)
        values = self._sampler.sample_relative(self._study, self._trial, drawn)
        return values | sampled_alone(
            self._sampler, self._study, self._trial, without(self._distributions, values)
        )

    def _of_grid(self, position: int) -> dict[str, Value]:
        num_points = self.sampling.num_points
        assert num_points is not None
        if position >= num_points:
            raise SearchSpaceError(
                f"the grid has {num_points} points and all of them are drawn: ask for at most "
                f"{num_points + len(self._initial)} configurations, or for more points of each range."
            )
        trial = create_trial(state=TrialState.RUNNING, system_attrs={"grid_id": position})
        return sampled_alone(self._sampler, self._study, trial, self._distributions)

    def _seed(self, *path: str | int) -> int:
        return derive_seed(self._root_seed, *path) % _NUM_SEEDS


def _check_numbers(space: SearchSpace, sampling: Sampling) -> None:
    if all(isinstance(distribution, CategoricalDistribution) for distribution in space.distributions.values()):
        raise SearchSpaceError(
            f"the sampler {sampling.name} draws numbers, but the search space has choices alone: use another "
            "sampler, such as tpe."
        )


def _build_qmc(seed: int) -> BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        # Unscrambled, the first point of the sequence is the lowest corner of the space, whatever the seed.
        return QMCSampler(scramble=True, seed=seed)


def _build_tpe(seed: int) -> BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        # Both are Optuna's defaults from 5.0 on; the liar keeps what is drawn side by side apart.
        return TPESampler(seed=seed, multivariate=True, constant_liar=True)


def _build_gp(seed: int) -> BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return GPSampler(seed=seed)


def _build_cma_es(seed: int) -> BaseSampler:
    if importlib.util.find_spec("cmaes") is None:
        raise OptionError(
            "the sampler cma-es needs the package cmaes, which is not installed: run pip install "
            "'frostline[cmaes]', or use one of random, qmc, tpe, gp and grid."
        )
    return CmaEsSampler(seed=seed, warn_independent_sampling=False)


def _build_grid(seed: int, *, points: Mapping[str, Sequence[Any]]) -> BaseSampler:
    return GridSampler(points, seed=seed)


RANDOM = Sampling(name="random", build=RandomSampler, learning=Learning.NOTHING)
"""Every configuration independently."""
QMC = Sampling(name="qmc", build=_build_qmc, learning=Learning.SEQUENCE)
"""A scrambled Sobol sequence, which covers the space more evenly than chance."""
TPE = Sampling(name="tpe", build=_build_tpe, learning=Learning.RUNGS)
"""Tree-structured Parzen estimators; random until ten configurations have been evaluated."""
GP = Sampling(name="gp", build=_build_gp, learning=Learning.ALIGNED)
"""A Gaussian process; random until ten configurations have been evaluated."""
CMA_ES = Sampling(name="cma-es", build=_build_cma_es, learning=Learning.RANKS)
"""Covariance matrix adaptation; choices are drawn at random, as it moves among numbers only."""


def grid(space: SearchSpace, *, num_points: int) -> Sampling:
    """Return the sampling that draws every point of a grid over ``space`` once, in a shuffled order.

    ``num_points`` is how many values of each range are tried; of choices it is all.
    """
    points = space.grid(num_points)
    return Sampling(
        name=f"grid of {num_points}",
        build=partial(_build_grid, points=points),
        learning=Learning.GRID,
        num_points=prod(map(len, points.values())),
    )


def near(values: Mapping[str, Value]) -> Sampling:
    """Return the sampling that draws every other configuration near ``values``, as long as that is where good ones lie.

    They are of some or all hyperparameters; the others are drawn from their whole ranges. Numbers are drawn from a normal
    distribution whose standard deviation is 0.15 of the range's scale, choices are made anew every other time.
    Source: see ``search.proposals.belief``. Raises: OptionError if there are none.
    """
    if not isinstance(values, Mapping) or not values:
        raise OptionError(f"near takes values of hyperparameters by their names, but was given {shown(values)}.")
    words = ", ".join(f"{name}={value}" for name, value in sorted(values.items()))
    return Sampling(
        name=f"near {words}",
        build=partial(BeliefSampler, values=dict(values)),
        learning=Learning.RUNGS,
        believed=dict(values),
    )
