"""Where the best values sit, and that a known shift is found, told in words, and not made up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from frostline.audit.landscape import Landscape
from frostline.audit.optima import Optimum, move_sentences, optima
from frostline.errors import AuditError
from frostline.search.spaces.space import SearchSpace
from tests.audit.landscapes import landscape

SPACE = SearchSpace(
    distributions={
        "learning_rate": FloatDistribution(1e-4, 1.0, log=True),
        "momentum": FloatDistribution(0.0, 1.0),
        "width": IntDistribution(16, 1024, log=True),
        "optimizer": CategoricalDistribution(("Adam", "SGD")),
        "fixed": CategoricalDistribution((3,)),
    }
)


def drawn(number: int, seed: int = 0) -> list[dict[str, Any]]:
    generator = np.random.default_rng(seed)
    return [
        {
            "learning_rate": float(10 ** generator.uniform(-4, 0)),
            "momentum": float(generator.uniform()),
            "width": int(2 ** generator.uniform(4, 10)),
            "optimizer": ("Adam", "SGD")[generator.integers(2)],
            "fixed": 3,
        }
        for _ in range(number)
    ]


def with_optima(
    exponents: np.ndarray, *, number: int = 48, seed: int = 0, sgd: Any = 0.0, noise: float = 0.1
) -> Landscape:
    """A landscape whose best learning rate is ten to ``exponents`` (Z, S), and where SGD costs ``sgd`` more."""
    values = drawn(number, seed)
    rates = np.log10([each["learning_rate"] for each in values])[:, None, None]
    is_sgd = np.array([each["optimizer"] == "SGD" for each in values])[:, None, None]
    blur = noise * np.random.default_rng(seed + 1).normal(size=(number, *exponents.shape))
    return landscape((rates - exponents) ** 2 + is_sgd * sgd + blur, hyperparameters=values, space=SPACE)


def found_in(table: Landscape) -> dict[str, Optimum]:
    return {optimum.name: optimum for optimum in optima(table)}


def test_a_known_shift_is_found_in_decades_and_in_words() -> None:
    table = with_optima(np.array([[-1.5, -1.5, -1.5], [-2.5, -2.5, -2.5], [-2.5, -2.5, -2.5]]))
    found = found_in(table)
    rate = found["learning_rate"]
    assert rate.scale == "log"
    assert rate.value.value[0] == pytest.approx(-1.5, abs=0.25)
    assert rate.value.value[1:] == pytest.approx(-2.5, abs=0.25)
    assert rate.shift.value[0] == pytest.approx(1.0, abs=0.25)
    assert (rate.shift.low[0] > 0.5).all()
    assert (rate.shift.low[-1, -1], rate.shift.value[-1, -1], rate.shift.high[-1, -1]) == (0, 0, 0)
    (move,) = rate.moves
    assert (move.axis, move.level) == ("layers", 1)
    assert move.low < move.shift < move.high
    (sentence,) = move_sentences(rate, table)
    assert sentence == (
        f"With 1 of 3 layers trained the best learning_rate sits {move.shift:.1f} decades [{move.low:.1f}, {move.high:.1f}] "
        f"higher, {10**move.shift:.1f} times, than with all of them."
    )
    assert all(found[name].moves == () for name in ("momentum", "width", "optimizer"))


def test_a_shift_along_the_samples_is_told_along_the_samples() -> None:
    table = with_optima(np.array([[-1.0, -1.0, -2.5], [-1.0, -1.0, -2.5]]))
    rate = found_in(table)["learning_rate"]
    assert [(move.axis, move.level) for move in rate.moves] == [("samples", 100), ("samples", 200)]
    (sentence,) = move_sentences(rate, table)
    assert sentence.startswith(("On 100 of 300 tokens the best", "On 200 of 300 tokens the best"))
    assert "higher" in sentence
    assert sentence.endswith(
        ("than on all of them (it moves on 200 too).", "than on all of them (it moves on 100 too).")
    )


def test_a_choice_is_told_by_the_share_of_the_commonest_in_full_training() -> None:
    # Adam is better in full training by more than the learning rate matters, and worse with a single layer.
    table = with_optima(np.full((2, 2), -2.0), sgd=np.array([[-9.0, -9.0], [9.0, 9.0]]))
    assert sum(each["optimizer"] == "Adam" for each in table.configurations) < 24
    found = found_in(table)
    choice = found["optimizer"]
    assert (choice.scale, choice.choice) == ("choice", "Adam")
    assert choice.value.value.tolist() == [[0, 0], [1, 1]]
    assert choice.shift.value.tolist() == [[-1, -1], [0, 0]]
    assert found["learning_rate"].choice is None
    assert set(found) == {"learning_rate", "momentum", "width", "optimizer"}
    (sentence,) = move_sentences(choice, table)
    assert sentence == (
        "With 1 of 2 layers trained optimizer Adam is less common among the best configurations, by 100% [100%, 100%] of "
        "them, than with all of them."
    )


def test_values_are_means_over_the_best_on_their_scale() -> None:
    values = [{**each, "width": 2 ** (4 + n % 3), "momentum": n / 10} for n, each in enumerate(drawn(8))]
    losses = np.array([[3, 0], [1, 1], [2, 2], [0, 3], [4, 4], [5, 5], [6, 6], [7, 7.0]])[:, None, :]
    found = found_in(landscape(losses, hyperparameters=values, space=SPACE))
    assert found["momentum"].value.value == pytest.approx(np.array([[(0.1 + 0.2 + 0.3) / 3, (0 + 0.1 + 0.2) / 3]]))
    assert found["momentum"].shift.value == pytest.approx(np.array([[0.1, 0]]))
    assert found["width"].value.value == pytest.approx(
        np.log10(2) * np.array([[(5 + 6 + 4) / 3, (4 + 5 + 6) / 3]])
    )


def test_one_interval_of_many_that_excludes_no_shift_is_no_move() -> None:
    exponents = np.full((5, 1), -2.0)
    exponents[0] = -1.6
    rate = found_in(with_optima(exponents, number=24))["learning_rate"]
    assert rate.shift.low[0, 0] > 0
    assert rate.moves == ()
    exponents[0] = -1.4
    assert [move.level for move in found_in(with_optima(exponents, number=24))["learning_rate"].moves] == [1]


def test_what_does_not_matter_is_seldom_said_to_move() -> None:
    false = 0
    for seed in range(12):
        found = found_in(with_optima(np.full((3, 4), -2.0), number=24, seed=seed, noise=3.0))
        false += sum(bool(optimum.moves) for optimum in found.values())
    assert false <= 1


def test_a_space_of_single_choices_has_no_optimum_and_four_configurations_have_none() -> None:
    fixed = SearchSpace(distributions={"fixed": CategoricalDistribution((3,))})
    losses = np.arange(12.0).reshape(6, 1, 2)
    assert optima(landscape(losses, hyperparameters=[{"fixed": 3}] * 6, space=fixed)) == ()
    with pytest.raises(AuditError, match="the audit has 4 configurations"):
        optima(landscape(losses[:4]))
