"""Searches, ladders and samplers by their names: the same on the command line and in Python."""

from __future__ import annotations

import difflib
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from frostline.errors import OptionError
from frostline.search.algorithms.halving import AsynchronousHalving, SuccessiveHalving
from frostline.search.algorithms.hyperband import Hyperband
from frostline.search.algorithms.sweep import FullFidelity, Sweep
from frostline.search.ladder import Ladder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from frostline.search.interface import Climb
    from frostline.search.proposals.sampling import Sampling

SIEVE, DIAGONAL = "sieve", "diagonal"
LADDERS: Mapping[str, Callable[..., Ladder]] = {
    SIEVE: Ladder.sieve,
    DIAGONAL: Ladder.diagonal,
    "layers-only": Ladder.layers_only,
    "samples-only": Ladder.samples_only,
}

HALVING = "halving"
GRID = "grid"
SAMPLERS = ("random", "qmc", "tpe", "gp", "cmaes", GRID)

Choice = TypeVar("Choice")


class ClimbFactory(Protocol):
    """Makes a search over a number of configurations that is known."""

    def __call__(self, *, ladder: Ladder, configurations: int) -> Climb:
        """Return the search."""


@dataclass(frozen=True, slots=True)
class NamedSearch:
    """What stands behind the name of a search."""

    made_by: ClimbFactory
    takes_reduction_factor: bool = True
    """Whether it is made with a ``reduction_factor`` too: one of so many is promoted."""


# All that a name needs, on the command line as in Python.
SEARCHES = {
    HALVING: NamedSearch(SuccessiveHalving),
    "hyperband": NamedSearch(Hyperband),
    "asynchronous": NamedSearch(AsynchronousHalving),
    "sweep": NamedSearch(Sweep, takes_reduction_factor=False),
    "full": NamedSearch(FullFidelity, takes_reduction_factor=False),
}


def search_named(name: str, reduction_factor: int | None = None) -> ClimbFactory:
    """Return the search called ``name``; None: promotes one in as many as it does by itself.

    Raises: OptionError if there is none.
    """
    named = choose("search", name, SEARCHES)
    if reduction_factor is None or not named.takes_reduction_factor:
        return named.made_by
    return functools.partial(named.made_by, reduction_factor=reduction_factor)  # type: ignore[call-arg]


def takes_reduction_factor(name: str) -> bool:
    """Return whether the search called ``name`` promotes one of so many. Raises: OptionError if there is none."""
    return choose("search", name, SEARCHES).takes_reduction_factor


def sampling_named(name: str) -> Sampling:
    """Return the sampler called ``name``. Raises: OptionError if there is none, or it needs more than a name: a grid."""
    choose("sampler", name, dict.fromkeys(SAMPLERS))
    # Slow to import: a name is checked without.
    from frostline.search.proposals.sampling import CMA_ES, GP, QMC, RANDOM, TPE

    if name == GRID:
        raise OptionError("a grid is one of a space: pass frostline.sampling.grid(space, num_points=3).")
    return dict(zip(SAMPLERS, (RANDOM, QMC, TPE, GP, CMA_ES), strict=False))[name]


def check_several_scores(sampler: str) -> None:
    """Raise OptionError if a sampler, by either name, knows one score only, so that nothing can be searched against it."""
    if sampler in ("cmaes", "cma-es"):
        raise OptionError(
            f"the sampler {sampler} knows one score: leave out what is searched against it, or use one of "
            f"{', '.join(name for name in SAMPLERS if name != 'cmaes')}."
        )


def choose(kind: str, name: str, choices: Mapping[str, Choice]) -> Choice:
    """Return the choice called ``name``. Raises: OptionError, which names them all, if there is none."""
    if name in choices:
        return choices[name]
    close = difflib.get_close_matches(name, choices, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise OptionError(f"there is no {kind} {name!r}: choose one of {', '.join(choices)}.{hint}")
