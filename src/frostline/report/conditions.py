"""Hyperparameters that are asked for under a condition, so that some configurations of a search have them and others not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.search.spaces.space import SearchSpace, holds
from frostline.wording import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from frostline.records import Configuration

_MOST_NAMED = 6


def has(configuration: Configuration, name: str, space: SearchSpace) -> bool:
    """Return whether a configuration has the hyperparameter ``name``, within the range that it has in ``space``."""
    return name in configuration and holds(space.distributions[name], configuration[name])


def nums_having(space: SearchSpace, configurations: Sequence[Configuration]) -> dict[str, int]:
    """Return of each hyperparameter that not all of the configurations have, how many do; {} where all have all."""
    counts = {name: sum(has(one, name, space) for one in configurations) for name in space.distributions}
    return {name: count for name, count in counts.items() if count < len(configurations)}


def shared_space(space: SearchSpace, partial: Mapping[str, int]) -> SearchSpace | None:
    """Return the part of ``space`` that all have, without what is ``partial`` by ``nums_having``; None if there is none."""
    shared = {name: each for name, each in space.distributions.items() if name not in partial}
    return SearchSpace(distributions=shared) if shared else None


def having_words(partial: Mapping[str, int], total: int) -> str:
    """Return which hyperparameters how many of all configurations have: "momentum (12), rate (14 of 26 configurations)"."""
    named = list(partial.items())[:_MOST_NAMED]
    words = [f"{name} ({count})" for name, count in named[:-1]]
    words += [f"{name} ({count} of {counted(total, 'configuration')})" for name, count in named[-1:]]
    words += [f"and {len(partial) - len(named)} more"] * (len(partial) > len(named))
    return ", ".join(words)
