"""In which order configurations climb where a rung misjudges whole regions: the good ones first, but no two alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from frostline.records import Value

    Array = NDArray[np.float64]

# What the last of a ranking is worth is that share of what the first is: exp(-2).
_DECAY = 2.0

# Configurations so far apart, in shares of a ranking by each hyperparameter, are alike by exp(-1/2).
_WIDTH = 0.25


def varied_order(ranking: Sequence[int], values: Mapping[int, Mapping[str, Value]]) -> list[int]:
    """Return ``ranking``, best first, in the order in which its configurations climb if they are to be unlike each other.

    Next is always the one that is worth most: the better its place and the less alike it is to the most alike of those
    before it. Likeness falls with the distance, each hyperparameter being measured by ranks among these configurations, so
    that scales and ranges do not count, and two that differ in a choice are not alike. With few hyperparameters good ones
    crowd in one place, of which a few climb; with many hardly any two are alike, and the order is nearly the ranking.
    ``values`` are their hyperparameters, by number. A prefix is the same whatever is asked for of the rest.
    Source: maximal marginal relevance (Carbonell and Goldstein 1998); docs/decisions/0046-unlike-each-other.md.
    """
    if not ranking:
        return []
    points = _positions([values[number] for number in ranking])
    worth = np.exp(-_DECAY * np.arange(len(ranking)) / len(ranking))
    likeness = np.zeros(len(ranking))
    is_left = np.ones(len(ranking), dtype=bool)
    order = []
    for _ in ranking:
        # Of those that are worth nothing, being like others in everything, the best comes first.
        chosen = int(np.where(is_left, worth * (1 - likeness), -1.0).argmax())
        is_left[chosen] = False
        order.append(ranking[chosen])
        squared = ((points - points[chosen]) ** 2).sum(axis=1)
        likeness = np.maximum(likeness, np.exp(-squared / (2 * _WIDTH**2)))
    return order


def _positions(rows: Sequence[Mapping[str, Value]]) -> Array:
    """Return where ``rows`` of hyperparameters lie, (rows, coordinates). One that a row has not is a choice of its own."""
    columns: list[Sequence[float] | Array] = []
    for name in dict.fromkeys(name for row in rows for name in row):
        column = [row.get(name) for row in rows]
        choices: dict[Value | None, None] = dict.fromkeys(column)
        if all(
            isinstance(value, int | float) and not isinstance(value, bool)
            for value in choices
            if value is not None
        ):
            columns.append(_rank_shares(np.array(column, dtype=np.float64)))
            choices = {None: None} if None in choices else {}
        # Any two that differ are at least one apart.
        columns += [[value == choice for value in column] for choice in choices]
    return np.array(columns, dtype=np.float64).reshape(-1, len(rows)).T


def _rank_shares(numbers: Array) -> Array:
    """Return the place of each number among them all as a share, equal ones in the middle of their places; of NaN 0."""
    ordered = np.sort(numbers[~np.isnan(numbers)])
    below, upto = np.searchsorted(ordered, numbers, "left"), np.searchsorted(ordered, numbers, "right")
    return np.where(np.isnan(numbers), 0.0, (below + upto) / (2 * max(1, len(ordered))))
