"""Is one correlation higher than another? Differences over the same configurations, resampled together."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from frostline.audit.stored_landscape import configuration_key
from frostline.errors import AuditError
from frostline.statistics.bootstrap import estimate_of, resampled_counts
from frostline.statistics.ranks import FEWEST, rank_correlation_replicates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.audit.landscape import Array, Landscape
    from frostline.statistics.bootstrap import Estimate

_RESAMPLES = 1000
_SEED = 0


def correlation_difference(first: tuple[Array, Array], second: tuple[Array, Array]) -> Estimate:
    """Return by how much the rank correlation of the ``first`` two losses exceeds that of the ``second`` two.

    Shapes: of each pair, losses (..., C) and full losses (C,), of the same configurations in the same order.
    Raises: AuditError below 5 configurations.
    """
    count = len(first[1])
    if count < FEWEST or len(second[1]) != count:
        raise AuditError(
            f"{count} and {len(second[1])} configurations are to be compared, but they must be the same ones, at least "
            f"{FEWEST}: record more."
        )
    counts = resampled_counts(count, resamples=_RESAMPLES, seed=_SEED)
    return estimate_of(rank_correlation_replicates(*first, counts) - rank_correlation_replicates(*second, counts))


def in_common(landscapes: Sequence[Landscape]) -> list[Landscape]:
    """Return the landscapes of the configurations that all have, in one order.

    Raises: AuditError if they differ in their numbers of layers.
    """
    first = landscapes[0]
    for landscape in landscapes[1:]:
        if landscape.layers != first.layers:
            raise AuditError(
                f"one landscape has layers {first.layers} and another {landscape.layers}, so their cells cannot be "
                f"compared: record both of models with as many layers."
            )
    places = [
        {configuration_key(values): index for index, values in enumerate(landscape.configurations)}
        for landscape in landscapes
    ]
    keys = [key for key in places[0] if all(key in others for others in places[1:])]
    return [landscape.of([own[key] for key in keys]) for landscape, own in zip(landscapes, places, strict=True)]


def at_budgets(landscape: Landscape, indices: Sequence[int]) -> Landscape:
    """Return the landscape at these of its budgets, which rise, and in full."""
    chosen = list(dict.fromkeys([*indices, len(landscape.samples) - 1]))
    return replace(
        landscape,
        samples=tuple(landscape.samples[index] for index in chosen),
        scores=landscape.scores[:, :, chosen],
        seconds=landscape.seconds[:, :, chosen],
        peak_bytes=landscape.peak_bytes[:, :, chosen],
        flops=landscape.flops[:, :, chosen],
    )


def with_last_columns(landscape: Landscape, columns: Sequence[Landscape]) -> Landscape:
    """Return the landscape with the full column of each of ``columns`` in the place of its own first ones.

    All are of the same configurations and layers, in one order.
    """
    scores, seconds = landscape.scores.copy(), landscape.seconds.copy()
    for place, column in enumerate(columns):
        scores[:, :, place] = column.scores[:, :, -1]
        seconds[:, :, place] = column.seconds[:, :, -1]
    return replace(landscape, scores=scores, seconds=seconds)


def lowest_first(landscape: Landscape) -> Array:
    """Return the losses with the configurations last, (Z, S, C), as ``correlation_difference`` takes them."""
    return np.moveaxis(landscape.losses, 0, -1)
