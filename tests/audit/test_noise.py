"""The seed's noise is the pooled spread within configurations, and the ceiling the mean correlation between seeds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from frostline.audit.landscape import Landscape
from frostline.audit.noise import seed_noise
from tests.audit.landscapes import landscape


def repeated(own: list[float], *others: list[float], **changed: object) -> Landscape:
    return landscape(np.array(own)[:, None, None], repeats=np.array(others, dtype=float), **changed)


NAN, INF = np.nan, np.inf


def test_without_repeats_nothing_is_known() -> None:
    assert seed_noise(landscape(np.arange(6.0)[:, None, None])) is None
    assert seed_noise(repeated([1, 2, 3], [NAN, NAN, NAN])) is None


def test_the_variance_is_pooled_by_its_degrees_of_freedom() -> None:
    noise = seed_noise(repeated([1, 2, 5], [3, 2, NAN], [NAN, 5, NAN]))
    assert noise is not None
    # Two of the configurations are repeated: squares 1 + 1 with one degree of freedom, 1 + 1 + 4 with two.
    assert noise.standard_deviation == pytest.approx(((1 + 1 + 1 + 1 + 4) / 3) ** 0.5)
    assert noise.tolerance == pytest.approx(2 * noise.standard_deviation)
    assert (noise.num_repeated, noise.ceiling, noise.num_unstable) == (2, None, 0)


def test_the_better_half_alone_counts_where_enough_of_it_is_repeated() -> None:
    own = [1.0, 2, 3, 4, 5, 6]
    loud = seed_noise(repeated(own, [1.2, 2.2, 3.2, 14, 15, 16]))
    assert loud is not None
    assert loud.standard_deviation == pytest.approx(0.2 / 2**0.5)
    two_of_it = seed_noise(repeated(own, [1.2, 2.2, NAN, 4.6, NAN, NAN]))
    assert two_of_it is not None
    assert two_of_it.standard_deviation == pytest.approx(((0.02 + 0.02 + 0.18) / 3) ** 0.5)
    # The better half of scores that are better when higher is the other one.
    higher = seed_noise(repeated(own, [1.2, 2.2, 3.2, 14, 15, 16], direction="maximize"))
    assert higher is not None
    assert higher.standard_deviation == pytest.approx(10 / 2**0.5)


def test_what_diverges_has_no_spread_but_is_counted() -> None:
    noise = seed_noise(repeated([1, 2, 3, 4, NAN, 6], [1.2, 2.2, 3.2, INF, INF, NAN]))
    assert noise is not None
    assert noise.standard_deviation == pytest.approx(0.2 / 2**0.5)
    assert (noise.num_repeated, noise.num_unstable) == (5, 1)
    assert noise.ceiling is not None
    assert noise.ceiling.value == pytest.approx(stats.spearmanr([1, 2, 3, 4, 5], [1, 2, 3, 4.5, 4.5]).statistic)


def test_the_ceiling_is_the_mean_over_pairs_of_seeds() -> None:
    generator = np.random.default_rng(0)
    quality = np.arange(30.0)
    seeds = [quality + 6 * generator.normal(size=30) for _ in range(3)]
    noise = seed_noise(repeated(*(list(seed) for seed in seeds)))
    assert noise is not None
    assert noise.ceiling is not None
    pairs = [(0, 1), (0, 2), (1, 2)]
    expected = np.mean([stats.spearmanr(seeds[a], seeds[b]).statistic for a, b in pairs])
    assert noise.ceiling.value == pytest.approx(expected)
    assert noise.ceiling.low < noise.ceiling.value < noise.ceiling.high < 1
    partly = [list(seeds[0]), [*seeds[1][:5], *[NAN] * 25]]
    few = seed_noise(repeated(*partly))
    assert few is not None
    assert few.ceiling is not None
    assert few.ceiling.value == pytest.approx(stats.spearmanr(seeds[0][:5], seeds[1][:5]).statistic)
    partly[1][4] = NAN
    fewer = seed_noise(repeated(*partly))
    assert fewer is not None
    assert fewer.ceiling is None
