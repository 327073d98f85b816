"""Losses against costs, less of both being better: whom no other beats in both, and in which order configurations climb.

One configuration dominates another if it is no worse in both and better in one.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    Point = tuple[float, float]
    """A loss and a cost."""


def climbing_order(points: Mapping[int, Point]) -> list[int]:
    """Return the numbers of ``points`` in the order in which they climb: front by front, each spread out.

    The first front is of those that nobody dominates, the next of those that only these do. Of each the one of the least
    loss comes first, and then always the one that is furthest from all before it of that front. Distances are between ranks,
    as a rung tells no more; ties go to the lower number.
    Source: MO-ASHA (Schmucker et al. 2021, arXiv:2106.12639), with ranks for values.
    """
    losses, costs = (sorted(values) for values in zip(*points.values(), strict=True)) if points else ((), ())
    places = {
        number: (bisect_left(losses, loss), bisect_left(costs, cost)) for number, (loss, cost) in points.items()
    }
    return [number for front in fronts(points) for number in _spread_out(front, places)]


def fronts(points: Mapping[int, Point]) -> list[list[int]]:
    """Return the numbers of ``points`` by front, the first one first, in each by loss, then cost, then number."""
    found: list[list[int]] = []
    # Points come by rising loss: a front dominates the next point if the least of its costs so far, that of its last point,
    # is no higher. These rise from front to front.
    least_costs: list[float] = []
    for (_, cost), numbers in _by_point(points):
        front = bisect_right(least_costs, cost)
        if front == len(found):
            found.append([])
            least_costs.append(cost)
        least_costs[front] = cost
        found[front] += numbers
    return found


def num_dominating(points: Mapping[int, Point]) -> dict[int, int]:
    """Return for each number of ``points`` how many others dominate it: it has no fewer when more are added."""
    counts: dict[int, int] = {}
    costs: list[float] = []
    for (_, cost), numbers in _by_point(points):
        counts |= dict.fromkeys(numbers, bisect_right(costs, cost))
        for _ in numbers:
            insort(costs, cost)
    return counts


def _by_point(points: Mapping[int, Point]) -> Iterator[tuple[Point, list[int]]]:
    """Yield each point once, by loss and then cost, with the numbers that lie there."""
    ordered = sorted(points, key=lambda number: (points[number], number))
    for point, numbers in groupby(ordered, key=points.__getitem__):
        yield point, [*numbers]


def _spread_out(front: Sequence[int], places: Mapping[int, tuple[int, int]]) -> list[int]:
    """Return ``front``, the first first, and then always whoever is furthest from the nearest of those before."""
    order = [front[0]]
    distances = {number: _squared_distance(places[number], places[front[0]]) for number in front[1:]}
    while distances:
        furthest = max(distances, key=lambda number: (distances[number], -number))
        del distances[furthest]
        order.append(furthest)
        for number, distance in distances.items():
            distances[number] = min(distance, _squared_distance(places[number], places[furthest]))
    return order


def _squared_distance(one: tuple[int, int], other: tuple[int, int]) -> int:
    return (one[0] - other[0]) ** 2 + (one[1] - other[1]) ** 2
