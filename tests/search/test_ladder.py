from __future__ import annotations

import pickle
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frostline.errors import FidelityError, LadderError
from frostline.records import Fidelity
from frostline.search.ladder import Ladder, integer_root

CONSTRUCTORS = [Ladder.diagonal, Ladder.layers_only, Ladder.samples_only]
SIZES = st.integers(1, 200), st.integers(1, 10**15), st.integers(-1, 12)


def steps(ladder: Ladder) -> list[tuple[int, int]]:
    return [(rung.trainable_layers, rung.samples) for rung in ladder.rungs]


@given(number=st.integers(0, 10**60), degree=st.integers(1, 12))
def test_integer_root_is_exact(number: int, degree: int) -> None:
    root = integer_root(number, degree)
    assert root**degree <= number < (root + 1) ** degree


def test_integer_root_where_a_logarithm_fails() -> None:
    assert integer_root(243, 5) == 3
    assert integer_root(10**45, 3) == 10**15
    assert integer_root(10**45 - 1, 3) == 10**15 - 1


@pytest.mark.parametrize("constructor", CONSTRUCTORS)
@given(sizes=st.tuples(*SIZES))
def test_a_ladder_rises_in_whole_numbers_and_ends_full_or_says_why_not(constructor, sizes) -> None:
    num_layers, full_samples, num_rungs = sizes
    axis = num_layers if constructor == Ladder.layers_only else full_samples
    if num_rungs < 2 or num_rungs > axis - -(-axis // 5) + 1:
        with pytest.raises(LadderError) as caught:
            constructor(num_layers=num_layers, full_samples=full_samples, num_rungs=num_rungs)
        assert "\n" not in str(caught.value)
        return
    ladder = constructor(num_layers=num_layers, full_samples=full_samples, num_rungs=num_rungs)
    assert len(ladder.rungs) == num_rungs
    assert steps(ladder)[-1] == (num_layers, full_samples)
    assert all(type(number) is int for step in steps(ladder) for number in step)
    for low, high in pairwise(steps(ladder)):
        assert low[0] <= high[0]
        assert low[1] <= high[1]
        assert low != high


@given(num_layers=st.integers(1, 200), num_rungs=st.integers(2, 6))
def test_the_default_starts_at_a_fifth_and_wastes_no_layer(num_layers: int, num_rungs: int) -> None:
    ladder = Ladder.diagonal(num_layers=num_layers, full_samples=10**6, num_rungs=num_rungs)
    first = ladder.rungs[0]
    assert 5 * first.trainable_layers >= num_layers > 5 * (first.trainable_layers - 1)
    assert first.samples == 200_000
    if num_layers - first.trainable_layers >= num_rungs - 1:
        layers = [rung.trainable_layers for rung in ladder.rungs]
        assert len(set(layers)) == num_rungs


def test_the_ladder_of_the_papers_small_transformer() -> None:
    ladder = Ladder.diagonal(num_layers=10, full_samples=1_000_000)
    assert steps(ladder) == [(2, 200_000), (4, 447_213), (10, 1_000_000)]
    assert ladder.fingerprint == "rungs 2x200000,4x447213,10x1000000 of 10x1000000"
    assert pickle.loads(pickle.dumps(ladder)) == ladder
    assert hash(ladder) == hash(Ladder.diagonal(num_layers=10, full_samples=1_000_000))


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (
            lambda: Ladder.layers_only(num_layers=3, full_samples=100, num_rungs=5),
            "num_rungs is 5, but between a fifth of 3 layers and all of them there are only 3 numbers, 1 to 3: "
            "ask for 2 to 3 rungs, or use a ladder that grows samples too.",
        ),
        (
            lambda: Ladder.layers_only(num_layers=1, full_samples=100),
            "with layers from 1 to 1 a ladder has a single rung, but it must have at least 2: use more layers, or use "
            "a ladder that grows samples too.",
        ),
        (lambda: Ladder.samples_only(num_layers=3, full_samples=2), "ask for 2 rungs."),
        (
            lambda: Ladder.diagonal(num_layers=3, full_samples=100, num_rungs=1),
            "num_rungs is 1, but a ladder must",
        ),
        (
            lambda: Ladder.diagonal(num_layers=0, full_samples=100),
            "num_layers is 0 and full_samples is 100, but both",
        ),
        (lambda: Ladder.explicit([(3, 9)], num_layers=3, full_samples=9), "a ladder of 1 rungs climbs nowhere"),
        (
            lambda: Ladder.explicit([(1, 3), (1, 3), (3, 9)], num_layers=3, full_samples=9),
            "a rung of 1 layers and 3 samples follows one of 1 layers and 3 samples: neither may fall and one must rise",
        ),
        (lambda: Ladder.explicit([(2, 3), (1, 9), (3, 9)], num_layers=3, full_samples=9), "neither may fall"),
        (
            lambda: Ladder.explicit([(1, 3), (2, 9)], num_layers=3, full_samples=9),
            "the last rung is 2 layers and 9 samples, but it must be the full training: 3 layers and 9 samples",
        ),
    ],
)
def test_a_ladder_that_collapses_says_which_numbers_would_work(build, words: str) -> None:
    with pytest.raises(LadderError) as caught:
        build()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_rung_that_trains_nothing_is_refused() -> None:
    with pytest.raises(FidelityError, match="0 trainable layers and 5 samples trains nothing"):
        Ladder.explicit([(0, 5), (3, 9)], num_layers=3, full_samples=9)


def test_costs_follow_the_formula() -> None:
    ladder = Ladder.explicit([(2, 250), (2, 500), (4, 500), (4, 1000)], num_layers=4, full_samples=1000)
    # A layer's forward pass is 1 and its backward pass 2, so two of four layers take 4 + 2 * 2 of 3 * 4.
    assert ladder.relative_cost(Fidelity(trainable_layers=2, samples=500)) == pytest.approx(8 / 12 / 2)
    assert [ladder.climbing_cost(rung) for rung in range(4)] == pytest.approx([8 / 48, 8 / 48, 1 / 2, 1 / 2])


def test_rows_charge_those_that_start_higher_in_full() -> None:
    ladder = Ladder.samples_only(num_layers=4, full_samples=1000, num_rungs=2)
    assert [row.cost for row in ladder.rows((5, 1))] == pytest.approx([1.0, 0.8])
    assert [row.cost for row in ladder.rows((5, 3), started_per_rung=(5, 2))] == pytest.approx([1.0, 2.8])
    assert [row.cost for row in ladder.rows((0, 3))] == pytest.approx([0.0, 3.0])
    with pytest.raises(LadderError, match="3 numbers of configurations were given for 2 rungs"):
        ladder.rows((9, 3, 1))


def test_a_ladder_prints_as_a_table() -> None:
    ladder = Ladder.explicit([(1, 250), (4, 1000)], num_layers=4, full_samples=1000)
    assert str(ladder).splitlines() == [
        "rung  layers  samples  cost in full trainings",
        "   0       1      250                   0.125",
        "   1       4    1,000                   1.000",
    ]
    assert ladder.table((8, 2), sample_unit="tokens").splitlines() == [
        "rung  layers  tokens  configurations  cost in full trainings",
        "   0       1     250               8                   1.000",
        "   1       4   1,000               2                   2.000",
        "                                  10                   3.000",
    ]
