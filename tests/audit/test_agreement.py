"""Agreement is what scipy and a hand's count say, in every resample; what would mislead is refused or labelled."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from frostline.audit.agreement import agreement, rank_correlation, survivor_agreement
from frostline.errors import AuditError
from frostline.statistics.bootstrap import (
    estimate_of,
    fall_probabilities,
    holm,
    resampled_counts,
    sign_interval,
    sign_probability,
)
from frostline.statistics.ranks import rank_correlation_replicates, rank_correlations
from frostline.statistics.replicates import (
    pair_order_replicates,
    recall_replicates,
    regret_replicates,
)
from tests.audit.landscapes import landscape, noisy

LOSSES = st.lists(st.sampled_from([0.5, 1.0, 2.0, 3.5, 4.0, 7.0, np.inf]), min_size=7, max_size=7).map(np.array)


def drawn(counts: np.ndarray) -> list[np.ndarray]:
    """The configurations of every resample, each as often as it was drawn."""
    return [np.repeat(np.arange(counts.shape[1]), of_one.astype(int)) for of_one in counts]


def in_scipy(statistic: str, first: np.ndarray, second: np.ndarray) -> float:
    if len(set(first)) < 2 or len(set(second)) < 2:
        return 0.0
    # Ranks are finite where losses are not.
    ranks = stats.rankdata(first), stats.rankdata(second)
    return float(getattr(stats, statistic)(*ranks).statistic)


@given(first=LOSSES, second=LOSSES)
@settings(max_examples=40)
def test_correlations_are_scipys_in_every_resample(first: np.ndarray, second: np.ndarray) -> None:
    counts = resampled_counts(7, resamples=8, seed=1)
    spearman = rank_correlation_replicates(first, second, counts)
    kendall, _ = pair_order_replicates(first, second, counts)
    for index, chosen in enumerate(drawn(counts)):
        assert spearman[index] == rank_correlations(first[chosen], second[chosen])
        assert spearman[index] == pytest.approx(in_scipy("spearmanr", first[chosen], second[chosen]), abs=1e-12)
        assert kendall[index] == pytest.approx(in_scipy("kendalltau", first[chosen], second[chosen]), abs=1e-12)


@given(first=LOSSES, full=LOSSES)
def test_pairs_and_picks_are_those_of_a_count_by_hand(first: np.ndarray, full: np.ndarray) -> None:
    counts = resampled_counts(7, resamples=4, seed=2)
    _, kept = pair_order_replicates(first, full, counts)
    regret = regret_replicates(first, full, counts)
    for index, chosen in enumerate(drawn(counts)):
        a, b = first[chosen], full[chosen]
        pairs = [(i, j) for i, j in itertools.permutations(range(7), 2) if b[i] < b[j]]
        in_order = [1.0 if a[i] < a[j] else 0.5 if a[i] == a[j] else 0.0 for i, j in pairs]
        assert kept[index] == pytest.approx(np.mean(in_order) if pairs else 0.5)
        expected = np.mean(b[a == a.min()]) - b.min() if np.isfinite(b.min()) else 0.0
        assert regret[index] == pytest.approx(expected)


@given(first=st.permutations(range(9)), full=st.permutations(range(9)), num_best=st.integers(1, 9))
def test_recall_is_the_share_of_the_best_that_are_found(first: list[int], full: list[int], num_best: int) -> None:
    counts = np.ones((1, 9))
    (recall,) = recall_replicates(np.array(first, float), np.array(full, float), counts, num_best=num_best)
    best = set(np.argsort(full)[:num_best]) & set(np.argsort(first)[:num_best])
    assert recall == pytest.approx(len(best) / num_best)


def test_where_the_cell_ties_all_the_best_are_found_by_chance() -> None:
    full = np.arange(8.0)
    assert recall_replicates(np.ones(8), full, np.ones((1, 8)), num_best=2) == pytest.approx(2 / 8)
    # Two are told apart from the rest; the third place is one of six's.
    cell = np.array([0, 1, 5, 5, 5, 5, 5, 5.0])
    assert recall_replicates(cell, full, np.ones((1, 8)), num_best=3) == pytest.approx((2 + 1 / 6) / 3)


def test_an_audit_by_hand() -> None:
    full = [1, 2, 3, 4, 5]
    swapped = [2, 1, 3, 5, 4]  # two of ten pairs are the other way round
    found = agreement(landscape(np.stack([swapped, full], axis=1)[:, None, :]))
    assert (found.num_configurations, found.top_k) == (5, 1)
    assert found.spearman.value == pytest.approx(np.array([[1 - 6 * 4 / (5 * 24), 1]]))
    assert found.kendall.value == pytest.approx(np.array([[(8 - 2) / 10, 1]]))
    assert found.pair_order.value == pytest.approx(np.array([[0.8, 1]]))
    assert found.top_recall.value == pytest.approx(np.array([[0, 1]]))
    assert found.regret.value == pytest.approx(np.array([[1, 0]]))


def test_a_diverged_training_is_tied_with_its_like_and_worse_than_the_rest() -> None:
    scores = np.array([[1, 1], [2, 2], [3, 3], [np.nan, 4], [np.nan, 5], [np.nan, np.nan]], float)[:, None, :]
    found = agreement(landscape(scores)).spearman.value[0, 0]
    assert found == pytest.approx(stats.spearmanr([1, 2, 3, 5, 5, 5], [1, 2, 3, 4, 5, 6]).statistic)
    higher_is_better = agreement(landscape(-scores, direction="maximize"))
    assert higher_is_better.spearman.value[0, 0] == pytest.approx(found)
    best_diverges = scores.copy()
    best_diverges[0, 0, 1] = np.nan
    assert agreement(landscape(best_diverges)).regret.value[0, 0] == np.inf


def test_intervals_are_those_of_scipys_bootstrap() -> None:
    generator = np.random.default_rng(3)
    quality = generator.normal(size=40)
    losses = noisy(quality, [[0.6, 0.01]])
    found = agreement(landscape(losses), resamples=4000).spearman
    theirs = stats.bootstrap(
        (losses[:, 0, 0], losses[:, 0, 1]), lambda a, b: stats.spearmanr(a, b).statistic, paired=True,
        method="percentile", n_resamples=1000, rng=generator, vectorized=False,
    ).confidence_interval  # fmt: skip
    assert found.low[0, 0] == pytest.approx(theirs.low, abs=0.03)
    assert found.high[0, 0] == pytest.approx(theirs.high, abs=0.03)
    assert found.low[0, 0] < found.value[0, 0] < found.high[0, 0]
    assert (found.low[0, 1], found.high[0, 1]) == pytest.approx((1, 1))


def test_the_same_seed_gives_the_same_intervals() -> None:
    table = landscape(noisy(np.arange(9.0), [[3, 1], [2, 0.1]]))
    first, again, other = (agreement(table, seed=seed).spearman.low for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_too_few_configurations_or_no_order_are_refused() -> None:
    with pytest.raises(
        AuditError, match=r"^the audit has 4 configurations, but a rank correlation needs at least 5"
    ):
        agreement(landscape(noisy(np.arange(4.0), [[1, 1]])))
    with pytest.raises(AuditError, match=r"^all 6 configurations diverged in full training"):
        agreement(landscape(np.full((6, 1, 2), np.nan)))
    with pytest.raises(AuditError, match=r"^all 6 configurations have the same full score, 2,"):
        agreement(landscape(np.full((6, 1, 2), 2.0)))
    # The score as it was, not the loss that it is counted as; and what diverges is not widened.
    with pytest.raises(AuditError, match=r"the same full score, 2, so there .* widen the space\.$"):
        agreement(landscape(np.full((6, 1, 2), 2.0), direction="maximize"))
    with pytest.raises(AuditError, match=r"narrow the space to what can be trained\.$"):
        agreement(landscape(np.full((6, 1, 2), np.nan)))
    with pytest.raises(AuditError, match=r"^there are 4 configurations"):
        rank_correlation(np.arange(4.0), np.arange(4.0))
    with pytest.raises(AuditError, match=r"^both rungs have 4 configurations"):
        survivor_agreement(np.arange(6.0), np.array([1, 2, 3, 4, np.nan, np.nan]))
    with pytest.raises(AuditError, match=r"^the losses have shapes \(6,\) and \(5,\)"):
        rank_correlation(np.arange(6.0), np.arange(5.0))


def test_survivors_are_never_taken_for_all() -> None:
    lower = np.array([1.0, 2, 3, 4, 5, 6, 7, 8, 9, np.inf])
    upper = np.array([2.0, 1, 3, 5, 4, 6, np.nan, np.nan, np.nan, np.nan])
    with pytest.raises(
        AuditError, match=r"^4 of 10 configurations have no loss .* survivors.* use survivor_agreement"
    ):
        rank_correlation(lower, upper)
    found = survivor_agreement(lower, upper)
    assert (found.num_configurations, found.label) == (6, "among survivors")
    assert found.value == pytest.approx(stats.spearmanr(lower[:6], upper[:6]).statistic)
    assert found.low < found.value <= found.high
    assert rank_correlation(lower, -lower) == pytest.approx(-1)


def test_an_interval_may_be_infinite_but_is_never_no_number() -> None:
    replicates = np.array([[1.0], *[[float(n)] for n in range(50)], *[[np.inf]] * 50])
    found = estimate_of(replicates)
    assert (found.value[0], found.low[0], found.high[0]) == (1, 2, np.inf)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_rejects_as_long_as_the_next_passes(probabilities: list[float]) -> None:
    expected = set()
    for rank, index in enumerate(np.argsort(probabilities, kind="stable")):
        if probabilities[index] * (len(probabilities) - rank) > 0.05:
            break
        expected.add(int(index))
    assert set(np.flatnonzero(holm(np.array(probabilities)))) == expected


@given(heads=st.integers(0, 30), more=st.integers(0, 30))
def test_the_sign_test_is_scipys(heads: int, more: int) -> None:
    expected = stats.binomtest(heads, heads + more, alternative="greater").pvalue if heads + more else 1.0
    assert sign_probability(heads, heads + more) == pytest.approx(expected)


@pytest.mark.parametrize("number", [1, 5, 6, 9, 12, 40])
def test_the_interval_of_a_median_holds_what_the_sign_test_does_not_reject(number: int) -> None:
    low, high = sign_interval(np.arange(number, dtype=float))
    for median in np.arange(-0.5, number):
        below = int((np.arange(number) < median).sum())
        rejected = stats.binomtest(below, number).pvalue <= 0.05
        assert rejected == (not low < median < high)


def test_what_falls_in_all_resamples_alike_is_certain() -> None:
    moving = np.concatenate([[-2.0], np.resize([-1.0, 1.0], 99)])
    found = fall_probabilities(np.stack([np.full(100, -0.5), np.zeros(100), np.full(100, 0.5), moving], axis=1))
    assert found[:3].tolist() == [0, 1, 1]
    assert found[3] == pytest.approx(stats.norm.cdf(-2 / np.std(moving[1:])))
