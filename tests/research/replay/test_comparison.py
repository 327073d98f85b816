from __future__ import annotations

import json
import math
from dataclasses import dataclass, field

import numpy as np
import pytest

from frostline.errors import AuditError, OptionError
from frostline.research.replay.comparison import Conditions, compare
from frostline.research.replay.comparison_table import comparison_record, comparison_table
from frostline.research.replay.methods import Replayed, hyperband, random_search, recommended, usual_methods
from frostline.research.replay.synthetic import hartmann
from frostline.research.replay.synthetic_tables import synthetic_landscape
from frostline.research.replay.trace import Step, Trace
from frostline.search.ladder import Ladder
from tests.research.replay.tables import table

COUNT = 12
LANDSCAPE = table(5.0 + np.arange(COUNT))
"""Configuration 0 is the best, at a loss of 5; a full training takes 60 s."""


@dataclass(frozen=True)
class Told:
    """A method that finds the best of those searched after seconds that are told, and the second best before."""

    name: str
    seconds: tuple[float, ...]
    seen: list[Replayed] = field(default_factory=list)

    def trace(self, replayed: Replayed) -> Trace:
        found_at = self.seconds[len(self.seen)]
        self.seen.append(replayed)
        full = replayed.task.full
        losses = replayed.task.landscape.full_losses
        steps = [Step(seconds=10.0, run=0, index=1, fidelity=full, loss=float(losses[1]), cost=10.0)]
        if math.isfinite(found_at):
            steps.append(Step(seconds=found_at, run=1, index=0, fidelity=full, loss=float(losses[0]), cost=1.0))
        return Trace(steps=tuple(steps), full=full, run_ends=tuple(step.seconds for step in steps))


def told(first, second, **conditions):
    methods = [Told("first", first), Told("second", second)]
    comparison = compare(LANDSCAPE, methods, Conditions(num_seeds=len(first), **conditions))
    return comparison, methods


def test_medians_quartiles_and_ratios_by_hand() -> None:
    comparison, _ = told((20.0, 40.0, 30.0, 100.0, 50.0), (80.0, 80.0, 20.0, math.inf, math.inf), audited=0)
    assert comparison.median("first").value == 40.0
    assert comparison.quartiles("first") == (30.0, 50.0)
    assert comparison.median("second").value == 80.0
    assert comparison.quartiles("second") == (80.0, math.inf)
    assert comparison.ratio("second", "first").value == 2.0
    assert comparison.result("second").num_censored == 2
    assert comparison.median("first").low >= 20.0
    assert comparison.median("first").high <= 100.0
    assert comparison.full_seconds == 60.0
    # One run ends before the best is found, at the second best.
    assert comparison.result("first").run_seconds.tolist() == [10.0] * 5
    assert comparison.result("first").run_regrets.tolist() == [1.0] * 5
    assert comparison.result("first").run_successes.tolist() == [False] * 5
    near, _ = told((20.0,), (80.0,), audited=0, tolerance=1.0)
    assert near.result("first").run_successes.tolist() == [True]
    assert near.run_ratio("second", "first").value == 1.0


def test_intervals_are_those_of_the_bootstrap() -> None:
    """The median of 5 is at or below the lowest with the probability that 3 of 5 draws are: 0.058; and so at the top."""
    comparison, _ = told((1.0, 2.0, 3.0, 4.0, 5.0), (2.0, 4.0, 6.0, 8.0, 10.0), audited=0)
    assert (comparison.median("first").low, comparison.median("first").high) == (1.0, 5.0)
    # Seeds are drawn together: where one method always takes twice as long, there is nothing uncertain about it.
    ratio = comparison.ratio("second", "first")
    assert (ratio.value, ratio.low, ratio.high) == (2.0, 2.0, 2.0)


def test_what_is_never_reached_is_never_and_over_it_no_number() -> None:
    never = (math.inf,) * 3
    comparison, _ = told(never, (50.0, 60.0, 70.0), audited=0)
    assert math.isinf(comparison.median("first").value)
    assert comparison.ratio("second", "first").value == 0.0
    assert math.isinf(comparison.ratio("first", "second").value)
    assert math.isnan(comparison.ratio("first", "first").value)
    assert "never" in comparison_table(comparison)
    record = comparison_record(comparison)
    json.dumps(record, allow_nan=False)
    assert record["methods"][0]["median_seconds"]["value"] is None


def test_regrets_at_equal_cost() -> None:
    comparison, _ = told((30.0, 200.0, math.inf), (5.0, 5.0, 5.0), audited=0, budgets=(0.1, 1.0, 4.0))
    assert comparison.result("first").regrets.tolist() == [
        [math.inf, 0.0, 0.0],
        [math.inf, 1.0, 0.0],
        [math.inf, 1.0, 1.0],
    ]


def test_methods_meet_the_same_configurations_and_the_audits_are_others() -> None:
    comparison, methods = told((20.0,) * 6, (20.0,) * 6, audited=5)
    assert comparison.num_searched == COUNT - 5
    splits = []
    for first, second in zip(methods[0].seen, methods[1].seen, strict=True):
        assert first is second
        searched = [configuration.number for configuration in first.task.landscape.configurations]
        audited = [configuration.number for configuration in first.audited.configurations]
        assert sorted(searched + audited) == list(range(COUNT))
        assert len(audited) == 5
        # The goal is the best of those that are searched.
        assert first.patience.goal.best == 5.0 + min(searched)
        splits.append(tuple(audited))
    assert len(set(splits)) == 6
    # 5 configurations, 30 samples at 1 layer and at 2: one training each passes through all budgets.
    assert comparison.audit_seconds.tolist() == [5 * (30.0 + 60.0)] * 6
    rungs = compare(
        table(np.arange(COUNT), horizon="rung"), [Told("first", (20.0,))], Conditions(num_seeds=1, audited=5)
    )
    assert rungs.audit_seconds.tolist() == [5 * (10 + 20 + 30) * 3.0]


def test_all_methods_on_a_table_with_a_ladder_that_is_known_to_be_good() -> None:
    """One layer of eight ranks perfectly and costs little: the ladder that uses it beats all that do not."""
    landscape = synthetic_landscape(hartmann(3, bias=0.0, noise=0.0), configurations=60, seed=0)
    asked = []

    def recommend(audited):
        asked.append([configuration.number for configuration in audited.configurations])
        return Ladder.explicit([(1, 100), (8, 1000)], num_layers=8, full_samples=1000), 20

    methods = [*usual_methods(landscape, configurations=27), recommended(recommend, configurations=27)]
    comparison = compare(landscape, methods, Conditions(num_seeds=8, audited=10, budgets=(4.0,)))
    assert len(asked) == 8
    assert [result.name for result in comparison.results] == [method.name for method in methods]
    ours = comparison.median("recommended by an audit").value
    assert all(ours < comparison.median(method.name).value for method in methods[:-1])
    assert comparison.result("random search, full trainings").num_censored == 0
    # 27 × 1 layer × a tenth of the samples, and one full training.
    one_run = 27 * 0.1 * (7 / 8 + 3) / 24 + 1
    np.testing.assert_allclose(comparison.result("recommended by an audit").run_seconds, 100 * one_run)
    # From a fifth, two fifths (0.447) to all; from a tenth (1/9), three tenths to all; 100 s each in full.
    for share, seconds in (("1/5", 27 * 20 + 9 * 20 + 3 * 60), ("1/9", 27 * 10 + 9 * 20 + 3 * 70)):
        found = comparison.result(f"halving, samples only from {share}").run_seconds
        np.testing.assert_allclose(found, seconds)
    text = comparison_table(comparison)
    assert text.count("\n") == 3 + len(methods)
    assert "50 configurations searched, 10 set aside for an audit, 8 seeds" in text
    assert comparison_record(comparison)["good_configurations_mean"] == 1.0


def test_random_search_takes_what_chance_says() -> None:
    """One good configuration of m is the k-th in a random order for every k alike: the mean is (m + 1) / 2 trainings."""
    comparison = compare(
        table(np.arange(9.0)), [random_search(configurations=3)], Conditions(num_seeds=400, audited=0, budgets=())
    )
    mean = comparison.results[0].seconds.mean() / 60.0
    assert mean == pytest.approx(5.0, abs=4 * math.sqrt((81 - 1) / 12 / 400))
    assert "the best;" in comparison_table(comparison)


def test_too_little_to_compare_is_refused() -> None:
    with pytest.raises(AuditError, match="12 configurations less 8 for the audit leave 4"):
        compare(LANDSCAPE, [], Conditions(audited=8))
    for wrong in ({"num_seeds": 0}, {"audited": -1}):
        with pytest.raises(OptionError, match=r"num_seeds is .* and audited is"):
            Conditions(**wrong)


def test_hyperband_is_a_method_too() -> None:
    ladder = Ladder.explicit([(2, 10), (2, 30)], num_layers=2, full_samples=30)
    comparison = compare(
        LANDSCAPE, [hyperband("h", ladder, configurations=12)], Conditions(num_seeds=3, audited=0, budgets=())
    )
    # 7 at a third of a training, 2 of them for the rest, and 5 in full.
    assert comparison.result("h").run_seconds.tolist() == [7 * 20.0 + 2 * 40.0 + 5 * 60.0] * 3
