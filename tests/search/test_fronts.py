"""Losses against costs: fronts and their order against what they are by definition, and what that finds in a search."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from frostline.records import Request
from frostline.search.algorithms.halving import SuccessiveHalving
from frostline.search.fronts import climbing_order, fronts, num_dominating
from tests.search.simulation import LADDER, Simulation

# Few values, so that many are equal in one thing or both.
VALUES = st.integers(0, 6).map(float)
POINTS = st.lists(st.tuples(VALUES, VALUES), max_size=25).map(lambda points: dict(enumerate(points)))


def dominates(one, other) -> bool:
    return one[0] <= other[0] and one[1] <= other[1] and one != other


@given(points=POINTS)
def test_a_front_is_those_that_nobody_dominates_of_what_is_left(points) -> None:
    left, expected = dict(points), []
    while left:
        front = [number for number in left if not any(dominates(each, left[number]) for each in left.values())]
        expected.append(sorted(front, key=lambda number: (points[number], number)))
        left = {number: point for number, point in left.items() if number not in front}
    assert fronts(points) == expected


@given(points=POINTS)
def test_whoever_dominates_is_counted(points) -> None:
    expected = {
        number: sum(dominates(each, point) for each in points.values()) for number, point in points.items()
    }
    assert num_dominating(points) == expected


@given(points=POINTS, more=POINTS, limit=st.integers(1, 8))
def test_whom_as_many_dominate_is_never_among_as_many_whatever_is_added(points, more, limit: int) -> None:
    hopeless = [number for number, count in num_dominating(points).items() if count >= limit]
    later = points | {number + len(points): point for number, point in more.items()}
    assert not {*hopeless} & {*climbing_order(later)[:limit]}


@given(points=POINTS, data=st.data())
def test_the_order_is_by_front_begins_with_the_least_loss_and_depends_on_no_order_of_arrival(points, data) -> None:
    order = climbing_order(points)
    of_front = {number: place for place, front in enumerate(fronts(points)) for number in front}
    assert [of_front[number] for number in order] == sorted(of_front[number] for number in points)
    assert order[:1] == sorted(points, key=lambda number: (points[number], number))[:1]
    assert climbing_order(dict(data.draw(st.permutations([*points.items()])))) == order


def test_a_front_is_spread_out() -> None:
    """The two ends first, then the middle, then what lies between, by ranks alone: another scale changes nothing."""
    points = {0: (0.0, 9.0), 1: (0.1, 8.0), 2: (0.2, 7.0), 3: (4.0, 4.0), 4: (9.0, 0.0)}
    scaled = {number: (loss**3, 2**cost) for number, (loss, cost) in points.items()}
    assert climbing_order(points) == climbing_order(scaled) == [0, 4, 2, 1, 3]
    # Ranks are those of the whole rung: where many lie beside a gap of the front, its ends are far from each other.
    beaten = {number: (float(number), 4.5) for number in range(5, 9)}
    assert climbing_order(points | beaten)[:5] == [0, 4, 3, 2, 1]


def hypervolume(points, *, worst) -> float:
    """The area that ``points`` dominate below ``worst``."""
    area, before = 0.0, worst[1]
    for loss, cost in sorted(points):
        if loss < worst[0] and cost < before:
            area += (worst[0] - loss) * (before - cost)
            before = cost
    return area


def front_area(*, seed: int, against: bool) -> float:
    """What a search comes to whose wider models are better and dearer, and whose lower rungs are noisy."""
    random = Random(seed)
    table = [(random.random(), random.uniform(-1, 1)) for _ in range(81)]
    noise = [[random.gauss(0, spread) for _ in table] for spread in (0.1, 0.05, 0.0)]

    def outcome(request: Request) -> float:
        width, rate = table[request.number]
        return 1 - 0.7 * width**0.5 + rate**2 + noise[request.rung][request.number]

    search = SuccessiveHalving(ladder=LADDER, configurations=81)
    history = Simulation(
        search=search, outcome=outcome, model_cost=(lambda number: table[number][0]) if against else None
    ).run()
    ended = history.rung(2).ranking
    assert len(ended) == 9
    return hypervolume(
        [(history.evaluation(number, 2).score, table[number][0]) for number in ended], worst=(2.0, 1.0)
    )


def test_promoting_by_fronts_finds_a_larger_front_than_promoting_by_score() -> None:
    areas = [(front_area(seed=seed, against=True), front_area(seed=seed, against=False)) for seed in range(20)]
    assert all(by_front > by_score for by_front, by_score in areas)
    assert sum(by_front for by_front, _ in areas) > 1.5 * sum(by_score for _, by_score in areas)
