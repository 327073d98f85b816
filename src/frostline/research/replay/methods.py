"""What is compared: ways to search a recorded table, each with the same configurations, workers and patience."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

from frostline.research.replay.optuna_hyperband import replay_optuna
from frostline.research.replay.simulation import replay
from frostline.search.algorithms.halving import SuccessiveHalving
from frostline.search.algorithms.hyperband import Hyperband
from frostline.search.algorithms.realigned import RealignedSearch
from frostline.search.algorithms.sweep import FullFidelity
from frostline.search.ladder import Ladder

if TYPE_CHECKING:
    from frostline.audit.landscape import Landscape
    from frostline.research.replay.recorded import RecordedTask
    from frostline.research.replay.simulation import SearchOf
    from frostline.research.replay.trace import Patience, Trace
    from frostline.search.proposals.sampling import Sampling

Recommend = Callable[["Landscape"], tuple[Ladder, int]]
"""Returns the ladder and the reduction factor that an audit recommends, from the audit's configurations alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What a method is let loose on. ``audited`` are configurations it may know all of; they are not in ``task``."""

    task: RecordedTask
    audited: Landscape | None
    seed: int
    workers: int
    patience: Patience


class Method(Protocol):
    """A way to search."""

    @property
    def name(self) -> str:
        """What it is called in a table."""
        ...

    def trace(self, replayed: Replayed) -> Trace:
        """Return what it does."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchMethod:
    """One of frostline's searches, over so many configurations at a time, on a ladder that may follow from the audit."""

    name: str
    configurations: int
    build: Callable[[Replayed], SearchOf]
    sampling: Sampling | None = None
    """None: the configurations in random order."""

    def trace(self, replayed: Replayed) -> Trace:
        """See ``Method``."""
        return replay(
            replayed.task,
            self.build(replayed),
            configurations=self.configurations,
            seed=replayed.seed,
            workers=replayed.workers,
            sampling=self.sampling,
            patience=replayed.patience,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OptunaMethod:
    """Optuna's Hyperband pruner with its TPE sampler."""

    configurations: int
    name: str = "Optuna's Hyperband pruner with TPE"
    reduction_factor: int = 3

    def trace(self, replayed: Replayed) -> Trace:
        """See ``Method``."""
        return replay_optuna(
            replayed.task,
            configurations=self.configurations,
            seed=replayed.seed,
            workers=replayed.workers,
            patience=replayed.patience,
            reduction_factor=self.reduction_factor,
        )


def random_search(*, configurations: int) -> SearchMethod:
    """Return random search: every configuration trained in full."""
    return SearchMethod(name="random search, full trainings", configurations=configurations, build=_random)


def halving(name: str, ladder: Ladder, *, configurations: int, reduction_factor: int = 3) -> SearchMethod:
    """Return successive halving on ``ladder``, its rungs moved to the nearest that were recorded."""
    return SearchMethod(
        name=name,
        configurations=configurations,
        build=partial(_on, ladder=ladder, reduction_factor=reduction_factor, search=SuccessiveHalving),
    )


def realigned(name: str, ladder: Ladder, *, configurations: int, reduction_factor: int = 3) -> SearchMethod:
    """Return successive halving that learns how rungs of few layers are to be read, on ``ladder`` moved likewise."""
    return SearchMethod(
        name=name,
        configurations=configurations,
        build=partial(_realigned, ladder=ladder, reduction_factor=reduction_factor),
    )


def hyperband(name: str, ladder: Ladder, *, configurations: int, reduction_factor: int = 3) -> SearchMethod:
    """Return Hyperband on ``ladder``, its rungs moved to the nearest that were recorded."""
    return SearchMethod(
        name=name,
        configurations=configurations,
        build=partial(_on, ladder=ladder, reduction_factor=reduction_factor, search=Hyperband),
    )


def recommended(recommend: Recommend, *, configurations: int) -> SearchMethod:
    """Return successive halving on the ladder that ``recommend`` finds in each seed's audit."""
    return SearchMethod(
        name="recommended by an audit",
        configurations=configurations,
        build=partial(_recommended, recommend=recommend),
    )


def usual_methods(landscape: Landscape, *, configurations: int) -> tuple[Method, ...]:
    """Return the methods that need no audit: random search, the ladders that are drawn blindly, and Optuna's.

    Ladders of samples alone are given in two ways: from a fifth, as frostline draws them, and geometrically by the
    reduction factor of 3 from a ninth, as Hyperband has them.
    """
    full = landscape.full
    sizes = {"num_layers": full.trainable_layers, "full_samples": full.samples}
    ninths = [(full.trainable_layers, max(1, full.samples // factor)) for factor in (9, 3, 1)]
    geometric = Ladder.explicit(ninths, **sizes)
    climb = partial(halving, configurations=configurations)
    return (
        random_search(configurations=configurations),
        climb("halving, samples only from 1/5", Ladder.samples_only(**sizes)),
        climb("halving, samples only from 1/9", geometric),
        hyperband("Hyperband, samples only from 1/9", geometric, configurations=configurations),
        OptunaMethod(configurations=configurations),
        climb("halving, layers only", Ladder.layers_only(**sizes)),
        climb("halving, diagonal", Ladder.diagonal(**sizes)),
    )


def _random(replayed: Replayed) -> SearchOf:
    landscape = replayed.task.landscape
    full = landscape.full
    # A search has a ladder of at least two rungs, of which this one uses the last alone.
    ladder = Ladder.explicit(
        [(landscape.layers[0], landscape.samples[0]), (full.trainable_layers, full.samples)],
        num_layers=full.trainable_layers,
        full_samples=full.samples,
    )
    return partial(FullFidelity, ladder=ladder)


def _on(
    replayed: Replayed, *, ladder: Ladder, reduction_factor: int, search: type[SuccessiveHalving] | type[Hyperband]
) -> partial[SuccessiveHalving] | partial[Hyperband]:
    return partial(search, ladder=replayed.task.snapped(ladder), reduction_factor=reduction_factor)


def _realigned(replayed: Replayed, *, ladder: Ladder, reduction_factor: int) -> SearchOf:
    halving_of = _on(replayed, ladder=ladder, reduction_factor=reduction_factor, search=SuccessiveHalving)

    def search(*, configurations: int) -> RealignedSearch:
        plain = halving_of(configurations=configurations)
        return RealignedSearch(search=plain, space=replayed.task.landscape.space)

    return search


def _recommended(replayed: Replayed, *, recommend: Recommend) -> SearchOf:
    assert replayed.audited is not None, "a ladder is recommended from an audit, and there was none"
    ladder, reduction_factor = recommend(replayed.audited)
    return partial(SuccessiveHalving, ladder=ladder, reduction_factor=reduction_factor)
