"""A known shift is found and believed, none is made up, and what was trained elsewhere is learned from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from scipy.stats import spearmanr

from frostline.audit.agreement import agreement
from frostline.audit.landscape import Landscape
from frostline.audit.recommendation import recommend
from frostline.audit.shifts import alignment_of_ladder, shift_sentences, shifts, some_budgets
from frostline.errors import AuditError
from frostline.records import Fidelity
from frostline.search.alignment import Alignment
from frostline.search.ladder import Ladder
from frostline.search.spaces.space import SearchSpace
from tests.audit.landscapes import landscape

SPACE = SearchSpace(
    distributions={
        "rate": FloatDistribution(1e-4, 1e-1, log=True),
        "decay": FloatDistribution(1e-6, 1e-2, log=True),
        "momentum": FloatDistribution(0.8, 1.0),
        "optimizer": CategoricalDistribution(("Adam", "SGD")),
    }
)


def drawn(number: int, seed: int) -> list[dict[str, Any]]:
    generator = np.random.default_rng(seed)
    return [
        {
            "rate": float(10 ** generator.uniform(-4, -1)),
            "decay": float(10 ** generator.uniform(-6, -2)),
            "momentum": float(generator.uniform(0.8, 1.0)),
            "optimizer": ("Adam", "SGD")[generator.integers(2)],
        }
        for _ in range(number)
    ]


def losses_of(
    values: list[dict[str, Any]], *, rate: float, decay: float = 0.0, noise: float, seed: int
) -> np.ndarray:
    """Losses (C,) with a best rate of 10^-2.3 and decay of 10^-4, moved by so many decades; too high a rate is worse."""
    rates = np.log10([each["rate"] for each in values]) + 2.3 - rate
    decays = np.log10([each["decay"] for each in values]) + 4 - decay
    blur = np.random.default_rng(seed).normal(size=len(values))
    return np.where(rates < 0, rates**2, 3 * rates**2) + 0.1 * decays**2 + noise * blur


def shifted(
    shift: float, *, number: int = 40, seed: int = 0, decay: float = 0.0, noise: float = 0.05
) -> Landscape:
    """Two layers of which the first alone has its optimum elsewhere; two budgets, alike."""
    values = drawn(number, seed)
    low = losses_of(values, rate=shift, decay=decay, noise=noise, seed=seed + 1)
    full = losses_of(values, rate=0.0, noise=noise, seed=seed + 2)
    losses = np.stack([np.stack([low, low], axis=1), np.stack([full, full], axis=1)], axis=1)
    return landscape(losses, hyperparameters=values, space=SPACE)


@pytest.mark.parametrize("shift", [-0.6, 0.5])
def test_a_shift_is_found_and_believed(shift: float) -> None:
    found = shifted(shift)
    lower, full_layers = shifts(found, samples=[100])
    assert lower.fidelity == Fidelity(trainable_layers=1, samples=100)
    rate = lower.best["rate"]
    assert float(rate.value) == pytest.approx(shift, abs=0.15)
    assert float(rate.low) <= shift <= float(rate.high)
    assert lower.taken == {"rate": float(rate.value)}
    raw = spearmanr(found.losses[:, 0, 0], found.full_losses)[0]
    assert lower.unaligned == pytest.approx(raw, abs=0.15)
    assert lower.aligned > 0.9
    assert float(lower.gain.low) > 0
    assert full_layers.fidelity == Fidelity(trainable_layers=2, samples=100)
    assert full_layers.taken == {}


@pytest.mark.parametrize("seed", range(6))
def test_where_nothing_moves_nothing_is_taken(seed: int) -> None:
    assert [cell.taken for cell in shifts(shifted(0.0, number=24, seed=seed, noise=0.3))] == [{}, {}, {}]


def test_few_configurations_are_not_enough() -> None:
    (cell, _, _) = shifts(shifted(0.5, number=8, noise=0.5))
    assert cell.taken == {}
    assert float(cell.best["rate"].high) - float(cell.best["rate"].low) > 0.5


def test_two_hyperparameters_are_moved_one_after_the_other() -> None:
    found = shifted(0.5, number=64, decay=-1.5, noise=0.02)
    (cell, *_) = shifts(found, samples=[100])
    assert set(cell.taken) == {"rate", "decay"}
    assert cell.taken["rate"] == pytest.approx(0.5, abs=0.15)
    assert cell.taken["decay"] == pytest.approx(-1.5, abs=0.5)


def under(alignment: Alignment, found: Landscape, shift: float) -> Landscape:
    """The same configurations, trained under an alignment where one layer is trained."""
    fidelity = Fidelity(trainable_layers=1, samples=100)
    trained = [dict(alignment.aligned(one, fidelity)) for one in found.configurations]
    scores = found.scores.copy()
    scores[:, 0, :] = losses_of(trained, rate=shift, noise=0.05, seed=5)[:, None]
    values = [dict(one) for one in found.configurations]
    return landscape(scores, hyperparameters=values, space=SPACE, alignment=alignment)


def test_what_was_trained_beyond_the_space_tells_of_optima_there() -> None:
    # The best rate of one layer is 10^-0.9: outside the range.
    found = shifted(1.4, number=32)
    probe = under(Alignment(factors={1: {"rate": 10.0}}), found, 1.4)
    (alone, *_) = shifts(found, samples=[100])
    (both, *_) = shifts(found, [probe], samples=[100])
    assert both.taken["rate"] == pytest.approx(1.4, abs=0.2)
    assert both.aligned > alone.aligned + 0.1


def of_two_groups(best_head: float, number: int = 48) -> tuple[Landscape, Landscape]:
    """Blocks and a head whose best rate lies so many decades above: as they are, and with the head's factors drawn.

    Where both are off by a different amount there are two valleys, which no common shift makes one.
    """
    values = drawn(number, 0)
    alignment = Alignment.parse("2:head.rate=1..100")

    def scores(heads: np.ndarray) -> np.ndarray:
        off = np.log10([each["rate"] for each in values]) + 2.3
        low, full = (
            -np.exp(-((off / 0.6) ** 2)) - np.exp(-(((off + head - best) / 0.6) ** 2))
            for head, best in ((heads, best_head), (0.0, 0.0))
        )
        blur = 0.02 * np.random.default_rng(3).normal(size=(number, 3, 2))
        return np.stack([full, low, full], axis=1)[:, :, None] + blur

    plain = landscape(scores(np.zeros(number)), hyperparameters=values, space=SPACE)
    factors = [
        alignment.changed(one, Fidelity(trainable_layers=2, samples=100))["head.rate"] / one["rate"]
        for one in plain.configurations
    ]
    drawn_heads = landscape(scores(np.log10(factors)), hyperparameters=values, space=SPACE, alignment=alignment)
    return plain, drawn_heads


def test_the_head_may_want_to_be_moved_alone() -> None:
    plain, probe = of_two_groups(1.25)
    (alone,) = (cell for cell in shifts(plain, samples=[100]) if cell.fidelity.trainable_layers == 2)
    assert set(alone.best) == {"rate", "decay"}
    first, second, _ = shifts(plain, [probe], samples=[100])
    # Where one layer is trained nobody has trained a head otherwise.
    assert set(first.best) == {"rate", "decay"}
    assert second.taken["head.rate"] == pytest.approx(1.25, abs=0.3)
    assert second.factors["head.rate"] == pytest.approx(
        10 ** (second.taken["head.rate"] + second.taken.get("rate", 0.0))
    )
    assert second.aligned > alone.aligned + 0.1
    assert "times the head.rate would rank better" in " ".join(shift_sentences([second], plain))
    alignment = alignment_of_ladder([second], Ladder.explicit([(2, 90), (3, 200)], num_layers=3, full_samples=200))
    assert alignment.factors[2] == second.factors


def test_a_head_that_is_well_as_it_is_stays() -> None:
    plain, probe = of_two_groups(0.0)
    (cell,) = (cell for cell in shifts(plain, [probe], samples=[100]) if cell.fidelity.trainable_layers == 2)
    assert float(cell.best["head.rate"].low) <= 0 <= float(cell.best["head.rate"].high)
    assert cell.taken == cell.factors == {}


def test_scores_under_factors_of_their_own_rank_nothing() -> None:
    _, probe = of_two_groups(1.0)
    for judge in (agreement, recommend):
        with pytest.raises(AuditError, match=r"drawn for each configuration \(2:head\.rate=1\.\.100\)"):
            judge(probe)


def test_trainings_that_diverged_are_the_worst() -> None:
    found = shifted(0.5)
    scores = found.scores.copy()
    scores[scores > 3.0] = np.nan
    values = [dict(one) for one in found.configurations]
    (cell, *_) = shifts(landscape(scores, hyperparameters=values, space=SPACE), samples=[100])
    assert cell.taken["rate"] == pytest.approx(0.5, abs=0.2)


def test_an_alignment_follows_for_the_rungs_of_a_ladder() -> None:
    found = shifted(0.5)
    cells = shifts(found, samples=[100])
    ladder = Ladder.explicit([(1, 90), (2, 150), (2, 200)], num_layers=2, full_samples=200)
    alignment = alignment_of_ladder(cells, ladder)
    assert set(alignment.factors) == {1}
    assert alignment.factors[1]["rate"] == pytest.approx(10 ** cells[0].taken["rate"])
    assert alignment_of_ladder((), ladder).is_identity


def test_what_is_sure_is_said_once_for_each_number_of_layers() -> None:
    found = shifted(0.5)
    (sentence,) = shift_sentences(shifts(found), found)
    assert "With 1 of 2 layers trained on" in sentence
    assert "times the rate would rank better" in sentence
    unshifted = shifted(0.0)
    assert shift_sentences(shifts(unshifted), unshifted) == []


def test_a_space_without_a_logarithmic_range_has_no_shifts() -> None:
    space = SearchSpace(distributions={"rate": FloatDistribution(0.0, 1.0)})
    values = [{"rate": index / 10} for index in range(10)]
    losses = np.random.default_rng(0).normal(size=(10, 2, 2))
    assert shifts(landscape(losses, hyperparameters=values, space=space)) == ()


def test_four_configurations_are_refused() -> None:
    with pytest.raises(AuditError, match="has 4 configurations"):
        shifts(shifted(0.5, number=4))


def test_some_budgets_stand_for_all() -> None:
    losses = np.random.default_rng(0).normal(size=(6, 2, 10))
    assert some_budgets(landscape(losses)) == (200, 500, 1000)
    assert some_budgets(landscape(losses[:, :, :1])) == (100,)
