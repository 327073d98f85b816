"""A fidelity that tells less, does worse or costs less as it rises is found; chance is not taken for it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from frostline.audit.findings import Fall, Finding
from frostline.audit.landscape import Landscape
from frostline.audit.monotonicity import monotonicity
from frostline.errors import AuditError
from frostline.report.audits.shares import cost_shares
from tests.audit.landscapes import landscape, noisy

QUALITY = np.random.default_rng(5).normal(size=40)


def findings(table: Landscape) -> dict[str, Finding]:
    return {found.name: found for found in monotonicity(table)}


def of_ranks(spread: np.ndarray, *, seed: int = 0) -> dict[str, Finding]:
    """The findings where the cells blur the ranks by ``spread`` (Z, S), and the last one does not."""
    blurred = np.array(spread, dtype=float)
    blurred[-1, -1] = 0
    return findings(landscape(noisy(QUALITY, blurred, seed=seed)))


def test_ranks_that_get_better_are_no_violation() -> None:
    found = of_ranks(np.array([[2, 1.5, 1], [1.5, 1, 0.5], [1, 0.5, 0.1]]))
    for axis in ("layers", "samples"):
        finding = found[f"information in {axis}"]
        assert finding.holds
        assert finding.falls == ()
        assert "does not rank worse: none of" in finding.sentence
    # Three levels make three pairs, and neighbours at three places; those with full fidelity itself are left out.
    assert found["information in layers"].num_tests == 3 + 2 * 3 - 1


def test_a_fall_that_is_seen_and_within_chance_is_told_as_that() -> None:
    spread = np.full((3, 3), 0.5)
    spread[1] = 0.8
    blurred = noisy(QUALITY, spread)
    blurred[:, -1, -1] = QUALITY
    finding = findings(landscape(blurred[:12]))["information in layers"]
    assert finding.holds
    assert "beyond chance (the largest seen, from 1 layer to 2 layers by 0." in finding.sentence
    assert "], is within it); in the mean" in finding.sentence


def test_a_number_of_layers_that_ranks_worse_than_fewer_is_found() -> None:
    spread = np.full((4, 4), 0.2)
    spread[2] = 3.0
    found = of_ranks(spread)
    finding = found["information in layers"]
    assert not finding.holds
    worst = finding.falls[0]
    assert worst.at is None
    assert worst.higher == 3
    assert worst.lower in (1, 2)
    assert worst.low < worst.difference < worst.high < 0
    assert finding.sentence.startswith(
        f"Training more layers ranks worse in places: in the mean over all budgets ρ with full training is lower with 3 "
        f"layers than with {worst.lower} layer"
    )
    assert found["information in samples"].holds


def test_a_budget_that_ranks_worse_than_a_smaller_one_is_found() -> None:
    spread = np.full((4, 4), 0.2)
    spread[:, 1] = 3.0
    finding = of_ranks(spread)["information in samples"]
    assert {(fall.lower, fall.higher) for fall in finding.falls} == {(100, 200)}
    assert "lower with 200 tokens than with 100 tokens" in finding.sentence


def test_a_single_cell_that_ranks_worse_is_found_where_it_is() -> None:
    spread = np.full((4, 4), 0.1)
    spread[1, 0] = 5.0
    falls = of_ranks(spread)["information in layers"].falls
    assert (1, 2, 100) in {(fall.lower, fall.higher, fall.at) for fall in falls}


def test_chance_is_seldom_taken_for_a_fall() -> None:
    false = sum(
        not of_ranks(np.full((4, 5), 0.7), seed=seed)[f"information in {axis}"].holds
        for seed in range(10)
        for axis in ("layers", "samples")
    )
    assert false <= 1


def test_fewer_layers_that_do_better_at_a_small_budget_are_named() -> None:
    losses = QUALITY[:20, None, None] + np.array([[1.0, 0.8], [1.5, 0.5], [1.2, 0.1]])
    finding = findings(landscape(losses))["performance in layers"]
    assert finding.num_tests == 3 * 2
    assert finding.falls == (
        Fall(lower=1, higher=2, at=100, difference=pytest.approx(0.5), low=pytest.approx(0.5), high=pytest.approx(0.5),
             num_falling=20),
        Fall(lower=1, higher=3, at=100, difference=pytest.approx(0.2), low=pytest.approx(0.2), high=pytest.approx(0.2),
             num_falling=20),
    )  # fmt: skip
    assert finding.sentence == (
        "At equal tokens, fewer layers do better than more in 2 of 6 comparisons: most of all on 100 tokens, where 1 "
        "layer beat 2 layers for 20 of 20 configurations, by 0.5 in the median. Compare scores within one rung only."
    )
    assert findings(landscape(losses[:, ::2]))["performance in layers"].num_tests == 2


def test_what_most_lose_by_chance_is_no_fall() -> None:
    losses = np.broadcast_to(np.arange(12.0)[:, None, None], (12, 2, 1)).copy()
    losses[:9, 1] += 0.2
    losses[9:, 1] -= 0.2
    assert stats.binomtest(9, 12, alternative="greater").pvalue > 0.05
    assert findings(landscape(losses))["performance in layers"].holds
    losses[9, 1] += 0.4
    (fall,) = findings(landscape(losses))["performance in layers"].falls
    assert (fall.num_falling, fall.low) == (10, pytest.approx(0.2))


def test_a_training_that_diverges_with_more_layers_does_worse() -> None:
    losses = np.broadcast_to(np.arange(12.0)[:, None, None], (12, 2, 1)).copy()
    losses[:, 1] -= 0.5
    losses[:10, 1] = np.nan
    losses[11] = np.nan
    finding = findings(landscape(losses))["performance in layers"]
    (fall,) = finding.falls
    assert (fall.num_falling, fall.difference, fall.high) == (10, np.inf, np.inf)
    assert stats.binomtest(10, 11, alternative="greater").pvalue < 0.05
    losses[3:10, 1] = 0
    assert findings(landscape(losses))["performance in layers"].holds


def test_costs_that_rise_are_told_as_shares() -> None:
    found = findings(landscape(noisy(QUALITY, np.ones((4, 5)))))
    assert found["cost in layers"].sentence == "Training 1 of 4 layers takes 25% of the seconds on 500 tokens."
    assert (
        found["cost in samples"].sentence
        == "Training on 100 of 500 tokens takes 20% of the seconds with 4 layers."
    )
    assert found["cost in layers"].holds


def test_a_cost_is_the_same_share_as_where_the_report_tells_what_each_fidelity_costs() -> None:
    table = landscape(noisy(QUALITY, np.ones((4, 5))))
    # A few that take long move the mean and not the median.
    table.seconds[:3, 0] *= 10
    shares, measure = cost_shares(table) or (np.empty((0, 0)), "")
    assert measure == "seconds"
    assert f"{shares[0, -1]:.0%}" != "25%"
    assert findings(table)["cost in layers"].sentence == (
        f"Training 1 of 4 layers takes {shares[0, -1]:.0%} of the seconds on 500 tokens."
    )


def test_seconds_that_fall_are_named_unless_they_hardly_do() -> None:
    table = landscape(noisy(QUALITY, np.ones((3, 2))))
    table.seconds[:, 2] = 0.5 * table.seconds[:, 1]
    finding = findings(table)["cost in layers"]
    assert not finding.holds
    assert [(fall.lower, fall.higher, fall.at) for fall in finding.falls] == [(2, 3, 200), (2, 3, 100)]
    assert finding.falls[0].difference == pytest.approx(-2)
    assert "seconds fall from 2 layers to 3 layers, by 2 s on 200 tokens" in finding.sentence
    table.seconds[:, 2] = 0.97 * table.seconds[:, 1]
    assert findings(table)["cost in layers"].holds
    table.seconds[:, 2] = 0.5 * table.seconds[:, 1]
    table.seconds[5:, 2] = 2 * table.seconds[5:, 1]
    assert findings(table)["cost in layers"].holds


def test_costs_that_the_clock_has_no_part_in_need_no_test() -> None:
    table = landscape(noisy(QUALITY, np.ones((3, 2))))
    table.peak_bytes[:] = np.array([300.0, 100.0, 400.0])[:, None]
    table.peak_bytes[0] = np.nan
    finding = findings(table)["cost in layers"]
    assert not finding.holds
    assert finding.sentence.endswith("; peak bytes fall by 67% from 1 layer to 2 layers on 100 tokens.")
    assert findings(table)["cost in samples"].holds
    table.seconds[:] = np.nan
    assert findings(table)["cost in layers"].sentence.startswith("Peak bytes fall by 67%")
    table.peak_bytes[:] = np.nan
    assert "cost in layers" not in findings(table)


def test_an_axis_of_one_level_has_no_finding() -> None:
    assert set(findings(landscape(noisy(QUALITY, np.ones((3, 1)))))) == {
        "information in layers", "performance in layers", "cost in layers"
    }  # fmt: skip
    assert set(findings(landscape(noisy(QUALITY, np.ones((1, 3)))))) == {
        "information in samples",
        "cost in samples",
    }
    with pytest.raises(AuditError, match="4 configurations"):
        monotonicity(landscape(noisy(QUALITY[:4], np.ones((2, 2)))))
