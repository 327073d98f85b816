from __future__ import annotations

import math
import random

from hypothesis import given
from hypothesis import strategies as st

from frostline.records import Value
from frostline.search.variety import varied_order

RATES = {number: {"rate": 10 ** (-5 + number / 10), "decay": 0.0} for number in range(40)}


def on_a_grid(side: int) -> dict[int, dict[str, float]]:
    return {row * side + column: {"a": row, "b": column} for row in range(side) for column in range(side)}


@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {"rate": st.floats(1e-6, 1), "layers": st.integers(1, 3), "kind": st.sampled_from("xyz")}
        ),
        max_size=20,
    ),
    seed=st.integers(0, 9),
)
def test_it_is_an_order_of_all_that_begins_with_the_best(rows, seed) -> None:
    ranking = random.Random(seed).sample(range(len(rows)), len(rows))
    order = varied_order(ranking, dict(enumerate(rows)))
    assert sorted(order) == sorted(ranking)
    assert order[:1] == ranking[:1]


def test_where_a_rung_prefers_one_end_of_a_range_others_climb_too() -> None:
    # The rung wants rates as high as possible: a third by score alone would be those above 5e-3.
    ranking = sorted(RATES, reverse=True)
    third = varied_order(ranking, RATES)[: len(RATES) // 3]
    assert sum(number in ranking[:13] for number in third) >= 5
    assert sum(number in ranking[13:26] for number in third) >= 3
    assert sum(number in ranking[26:] for number in third) >= 1


def test_scales_and_ranges_do_not_count() -> None:
    ranking = random.Random(0).sample(range(40), 40)
    moved = {number: {"rate": 7 * math.log(row["rate"]), "decay": 3} for number, row in RATES.items()}
    assert varied_order(ranking, RATES) == varied_order(ranking, moved)


def test_with_many_hyperparameters_it_is_nearly_the_ranking() -> None:
    draw = random.Random(1)
    values = {number: {f"h{index}": draw.random() for index in range(10)} for number in range(40)}
    ranking = draw.sample(range(40), 40)
    assert len({*varied_order(ranking, values)[:13]} & {*ranking[:13]}) >= 12


def test_other_choices_are_unlike() -> None:
    values = {number: {"optimizer": "sgd" if number < 6 else "adam"} for number in range(12)}
    # All of one choice are alike in everything: of these the best comes first, and then whoever differs.
    assert varied_order(range(12), values)[:2] == [0, 6]
    flags = {number: {"nesterov": number >= 6} for number in range(12)}
    assert varied_order(range(12), flags)[:2] == [0, 6]


def test_a_hyperparameter_that_only_some_have_tells_them_from_the_others() -> None:
    values: dict[int, dict[str, Value]] = {number: {"rate": 0.1} for number in range(6)}
    values |= {number: {"rate": 0.1, "momentum": number / 12} for number in range(6, 12)}
    order = varied_order(range(12), values)
    assert order[:2] == [0, 6]
    # Of the same rate and none of the other nobody is needed any more; those with momentum differ in it.
    assert {*order[2:5]} <= {*range(7, 12)}


def test_those_that_are_the_same_in_everything_keep_their_order() -> None:
    assert varied_order([3, 1, 2, 0], {number: {"rate": 0.1} for number in range(4)}) == [3, 1, 2, 0]


def test_the_next_is_no_neighbour_of_the_best() -> None:
    ranking = sorted(on_a_grid(5), key=lambda number: (number % 5, number))
    order = varied_order(ranking, on_a_grid(5))
    assert order[0] == 0
    assert order[1] not in {1, 5, 6}
