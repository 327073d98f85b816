"""Grids: every pair of layers and samples, in rungs that continue nothing and end at full fidelity."""

from __future__ import annotations

import pytest

from frostline.errors import FidelityError, LadderError
from frostline.records import Fidelity
from frostline.search.algorithms.grid import Grid
from frostline.search.algorithms.sweep import Sweep
from frostline.search.history import History


def test_a_product_holds_every_pair_and_ends_in_the_full_training() -> None:
    grid = Grid.product([4, 1], [300, 100, 300])
    assert [(rung.trainable_layers, rung.samples) for rung in grid.rungs] == [
        (1, 100),
        (1, 300),
        (4, 100),
        (4, 300),
    ]
    assert (grid.num_layers, grid.full_samples) == (4, 300)


def test_a_sweep_over_a_grid_asks_for_all_of_a_configuration_but_the_full_training() -> None:
    sweep = Sweep(ladder=Grid.product([1, 4], [100, 300]), configurations=1)
    requests = sweep.next_requests(History("minimize"), capacity=9)
    assert [(request.number, request.rung) for request in requests] == [(0, 0), (0, 1), (0, 2)]


def test_one_training_is_a_grid() -> None:
    assert len(Grid.product([4], [300]).rungs) == 1


def rungs(*pairs: tuple[int, int]) -> tuple[Fidelity, ...]:
    return tuple(Fidelity(trainable_layers=layers, samples=samples) for layers, samples in pairs)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Grid.product([], [100]), LadderError, "at least one number of layers"),
        (lambda: Grid.product([0], [100]), FidelityError, "0 trainable layers"),
        (
            lambda: Grid(rungs=rungs((4, 300), (1, 300)), num_layers=4, full_samples=300),
            LadderError,
            "does not end in the full training of 4 layers and 300 samples",
        ),
        (
            lambda: Grid(rungs=rungs((5, 300), (4, 300)), num_layers=4, full_samples=300),
            LadderError,
            "5 layers and 300 samples, beyond the full training",
        ),
        (
            lambda: Grid(rungs=rungs((4, 300), (4, 300)), num_layers=4, full_samples=300),
            LadderError,
            "4 layers and 300 samples twice",
        ),
    ],
)
def test_what_is_no_grid_is_refused(make, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make()
