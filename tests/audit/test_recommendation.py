"""The recommended ladder: hand-made landscapes where it is known, costs by hand, and that luck does not choose it."""

from __future__ import annotations

import numpy as np
import pytest

from frostline.audit.recommendation import recommend
from frostline.errors import AuditError
from tests.audit.landscapes import landscape, noisy

QUALITY = np.random.default_rng(3).permutation(np.linspace(0.0, 1.0, 40))


def rungs_of(outcome) -> list[tuple[int, int]]:
    return [(rung.trainable_layers, rung.samples) for rung in outcome.ladder.rungs]


def test_where_every_cell_ranks_perfectly_the_cheapest_decides_alone() -> None:
    losses = noisy(np.linspace(0.0, 1.0, 54), np.zeros((3, 4)))
    found = recommend(landscape(losses), configurations=27, tolerance=0.0)
    assert found.reaches
    assert rungs_of(found.chosen) == [(1, 100), (3, 400)]
    assert found.chosen.quotas == (27, 1)
    assert found.chosen.chance == 1.0
    assert found.chosen.regret == 0.0


def test_no_rung_trains_less_than_one_of_a_draw() -> None:
    """The best of twelve is found by a cell that would not find the best of 27."""
    found = recommend(landscape(noisy(QUALITY[:24], np.zeros((3, 5)))), configurations=27, tolerance=0.0)
    assert found.chosen.quotas == (27, 3)
    assert {outcome.quotas for outcome in found.compared} == {(27, 9, 3)}
    # Of 39 the usual ladders train four in full, of a draw of six two thirds of one.
    small = recommend(landscape(noisy(QUALITY[:12], np.zeros((3, 5)))), configurations=39, tolerance=0.0)
    assert small.chosen.quotas[-1] * 6 >= 39
    assert small.compared == ()


def test_what_a_ladder_promises_other_configurations_keep() -> None:
    """Of 300 configurations 24 are audited, and searches of 27 others climb what is recommended."""
    spread = 0.5 * (1 - np.outer([1, 2, 3], [1, 2, 3, 4]) / 12)
    kept = []
    for seed in range(10):
        losses = noisy(np.random.default_rng(100 + seed).random(300), spread, seed=seed)
        chosen = recommend(landscape(losses[:24]), configurations=27, tolerance=0.1).chosen
        cells = [(rung.trainable_layers - 1, rung.samples // 100 - 1) for rung in chosen.ladder.rungs[:-1]]
        generator = np.random.default_rng(seed)
        for _ in range(50):
            begun = alive = 24 + generator.choice(276, 27, replace=False)
            for cell, quota in zip(cells, chosen.quotas[1:], strict=True):
                alive = alive[np.argsort(losses[alive, *cell])][:quota]
            kept.append(losses[alive, -1, -1].min() <= losses[begun, -1, -1].min() + 0.1)
    assert np.mean(kept) >= 0.8


def test_cells_that_do_not_rank_are_left_out() -> None:
    spread = np.full((3, 4), 50.0)
    spread[1, 1:] = 0.0
    spread[2, 3] = 0.0
    found = recommend(landscape(noisy(QUALITY, spread)), configurations=27, tolerance=0.0)
    assert rungs_of(found.chosen) == [(2, 200), (3, 400)]


def test_seconds_are_those_of_every_evaluation_and_continuing_pays_for_the_rest_alone() -> None:
    losses = noisy(QUALITY, np.zeros((2, 2)))
    found = recommend(landscape(losses), configurations=9, tolerance=0.0)
    # landscape(): seconds are layers × samples / 100, so 1, 2 for one layer and 2, 4 for both.
    assert rungs_of(found.chosen) == [(1, 100), (2, 200)]
    assert found.chosen.seconds == pytest.approx(9 * 1 + 1 * 4)
    assert found.chosen.full_trainings == pytest.approx(13 / 4)
    samples_only = {
        outcome.name: outcome
        for outcome in recommend(
            landscape(noisy(QUALITY, np.zeros((2, 5)))), configurations=9, tolerance=0.0
        ).compared
    }["samples-only"]
    assert rungs_of(samples_only) == [(2, 100), (2, 200), (2, 500)]
    assert samples_only.quotas == (9, 3, 1)
    assert samples_only.seconds == pytest.approx(9 * 2 + 3 * 2 + 1 * 6)


def test_no_ladder_is_called_sure_where_nothing_below_full_training_ranks() -> None:
    spread = np.full((2, 2), 50.0)
    spread[1, 1] = 0.0
    found = recommend(landscape(noisy(QUALITY, spread)), configurations=27, tolerance=0.0)
    assert not found.reaches


def test_one_lucky_configuration_does_not_make_a_cell_sure() -> None:
    """A cell that puts the very best first and is noise otherwise fails whenever the best is another one."""
    losses = noisy(QUALITY[:24], [[50.0], [0.0]])
    best = int(np.argmin(QUALITY[:24]))
    losses[best, 0, 0] = -1e6
    found = recommend(landscape(losses), configurations=24, tolerance=0.0)
    assert not found.reaches


@pytest.mark.parametrize("number", [5, 6, 9])
def test_of_fewer_than_ten_configurations_no_ladder_is_sure(number: int) -> None:
    """Draws of five are all of them, or nearly: that each succeeds says little of other configurations."""
    found = recommend(landscape(noisy(QUALITY[:number], np.zeros((2, 2)))), configurations=27, tolerance=0.0)
    assert found.chosen.chance == 1.0
    assert found.chosen.error >= 0.25
    assert not found.reaches


def test_what_diverges_is_never_promoted_and_costs_nothing_where_all_do() -> None:
    losses = noisy(QUALITY, np.zeros((2, 2)))
    losses[:10] = np.nan
    found = recommend(landscape(losses), configurations=27, tolerance=0.0)
    assert found.chosen.chance == 1.0
    assert np.isfinite(found.chosen.regret)


def test_as_many_random_trainings_as_it_costs_are_the_comparison() -> None:
    found = recommend(landscape(noisy(QUALITY, np.zeros((3, 4)))), configurations=20, tolerance=0.0)
    # Cells cost 1/12 of a full training at best: 20/12 + 1 = 2.67 trainings, 3 of 20 in a random order.
    assert found.chosen.full_trainings == pytest.approx(20 / 12 + 1)
    assert found.random_chance == pytest.approx(3 / 20, abs=0.05)


def test_a_larger_tolerance_allows_a_cheaper_ladder() -> None:
    spread = np.linspace(0.5, 0.0, 12).reshape(3, 4)
    table = landscape(noisy(QUALITY, spread))
    strict, loose = (recommend(table, configurations=27, tolerance=tolerance) for tolerance in (0.02, 0.3))
    assert loose.chosen.seconds < strict.chosen.seconds


def test_without_repeats_the_tolerance_is_a_share_of_the_spread() -> None:
    found = recommend(landscape(noisy(QUALITY, np.zeros((2, 2)))), configurations=9)
    lower, upper = np.quantile(QUALITY, [0.25, 0.75])
    assert found.tolerance == pytest.approx(0.05 * (upper - lower))


def test_the_same_landscape_gives_the_same_ladder() -> None:
    table = landscape(noisy(QUALITY, np.full((3, 3), 0.2)))
    first, second = (recommend(table, configurations=27) for _ in range(2))
    assert first.chosen == second.chosen


@pytest.mark.parametrize(
    ("losses", "changed", "words"),
    [
        (np.zeros((4, 2, 2)), {}, "the landscape has 4 configurations"),
        (np.zeros((6, 1, 1)), {}, "no cell below full fidelity"),
        (np.zeros((6, 2, 2)), {"seconds": np.full((6, 2, 2), np.nan)}, "cells without seconds"),
    ],
)
def test_what_cannot_be_chosen_from_is_refused(losses, changed, words: str) -> None:
    with pytest.raises(AuditError, match=words):
        recommend(landscape(losses, **changed))


def test_one_configuration_has_no_ladder() -> None:
    table = landscape(noisy(QUALITY, np.zeros((2, 2))))
    with pytest.raises(
        AuditError, match="a ladder for 1 configuration was asked for, but halving leaves some behind"
    ):
        recommend(table, configurations=1)
    assert recommend(table, configurations=2).chosen.quotas == (2, 1)
