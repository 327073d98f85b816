"""What a rung trains in place of a configuration."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from frostline.errors import AlignmentError
from frostline.records import Configuration, Fidelity
from frostline.search.alignment import IDENTITY, Alignment
from frostline.search.space import SearchSpace

SPACE = SearchSpace(
    distributions={
        "learning_rate": FloatDistribution(1e-4, 1e-1, log=True),
        "weight_decay": FloatDistribution(1e-6, 1e-2, log=True),
        "momentum": FloatDistribution(0.0, 1.0),
        "width": IntDistribution(16, 1024, log=True),
        "optimizer": CategoricalDistribution(("Adam", "SGD")),
    }
)
CONFIGURATION = Configuration(
    number=3,
    hyperparameters={"learning_rate": 0.02, "weight_decay": 1e-4, "momentum": 0.5},
    sampler_state={"a": 1},
)


def at(layers: int) -> Fidelity:
    return Fidelity(trainable_layers=layers, samples=100)


def test_few_layers_train_other_values_and_all_others_stay() -> None:
    alignment = Alignment(factors={1: {"learning_rate": 10.0, "weight_decay": 0.5}, 2: {"learning_rate": 3.0}})
    found = alignment.aligned(CONFIGURATION, at(1))
    # Beyond the search space, which is that of full training.
    assert dict(found) == {"learning_rate": 0.2, "weight_decay": 5e-5, "momentum": 0.5}
    assert (found.number, found.sampler_state) == (3, {"a": 1})
    assert alignment.changed(CONFIGURATION, at(2)) == {"learning_rate": pytest.approx(0.06)}
    assert alignment.aligned(CONFIGURATION, at(3)) is CONFIGURATION
    assert IDENTITY.aligned(CONFIGURATION, at(1)) is CONFIGURATION


def test_factors_of_one_change_nothing() -> None:
    assert Alignment(factors={1: {"learning_rate": 1.0}, 2: {}}) == IDENTITY
    assert Alignment(factors={1: {"learning_rate": 1.0}}).is_identity


names = st.sampled_from(["learning_rate", "weight_decay", "eps"])
factors = st.floats(1e-6, 1e6)


@given(st.dictionaries(st.integers(1, 40), st.dictionaries(names, factors)))
def test_its_text_stands_for_it(of_layers: dict[int, dict[str, float]]) -> None:
    alignment = Alignment(factors=of_layers)
    assert Alignment.parse(f"{alignment}") == alignment
    assert " " not in f"{alignment}"


@pytest.mark.parametrize(
    "text", ["learning_rate=3", "1:learning_rate", "x:learning_rate=3", "1:learning_rate=ten"]
)
def test_a_text_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(AlignmentError, match="such as '1:learning_rate=10;2:learning_rate=3'"):
        Alignment.parse(text)


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf")])
def test_a_factor_is_above_zero(factor: float) -> None:
    with pytest.raises(AlignmentError, match=r"the factor of learning_rate at 2 layers is .*above 0"):
        Alignment(factors={2: {"learning_rate": factor}})


@pytest.mark.parametrize("name", ["momentum", "width", "optimizer", "unknown"])
def test_only_floats_on_a_logarithmic_range_are_multiplied(name: str) -> None:
    with pytest.raises(AlignmentError, match=f"multiplies {name}.*: learning_rate, weight_decay here"):
        Alignment(factors={1: {name: 2.0}}).check(SPACE, num_layers=4)


@pytest.mark.parametrize("layers", [0, 4, 5])
def test_full_training_is_never_changed(layers: int) -> None:
    alignment = Alignment(factors={layers: {"learning_rate": 2.0}})
    with pytest.raises(AlignmentError, match=f"trainings of {layers} layers, but may change those of 1 to 3"):
        alignment.check(SPACE, num_layers=4)
