"""What a rung trains in place of a configuration."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from frostline.errors import AlignmentError
from frostline.records import Configuration, Fidelity
from frostline.search.alignment import IDENTITY, Alignment, Span
from frostline.search.spaces.space import SearchSpace

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


def test_the_head_may_train_at_values_of_its_own() -> None:
    alignment = Alignment.parse("2:head.learning_rate=10;3:head.learning_rate=6,learning_rate=2")
    alignment.check(SPACE, num_layers=4)
    found = alignment.aligned(CONFIGURATION, at(2))
    assert dict(found) == dict(CONFIGURATION)
    assert found.head == {"learning_rate": 0.2}
    assert (
        alignment.changed(CONFIGURATION, at(2))
        == {"head.learning_rate": 0.2}
        == {name: value for name, value in found.trained_values.items() if name not in CONFIGURATION}
    )
    # The head's factor is of the configuration's own value, whatever the others train with.
    found = alignment.aligned(CONFIGURATION, at(3))
    assert found["learning_rate"] == pytest.approx(0.04)
    assert found.head == {"learning_rate": pytest.approx(0.12)}
    assert CONFIGURATION.head == {}
    with pytest.raises(AlignmentError, match=r"where the head is all that is trained: write learning_rate\."):
        Alignment(factors={1: {"head.learning_rate": 2.0}}).check(SPACE, num_layers=4)
    with pytest.raises(AlignmentError, match=r"multiplies head\.momentum, but only floats"):
        Alignment(factors={2: {"head.momentum": 2.0}}).check(SPACE, num_layers=4)


def test_a_space_may_hold_the_heads_own_hyperparameter() -> None:
    space = SearchSpace(
        distributions={**SPACE.distributions, "head.learning_rate": FloatDistribution(1e-4, 1.0, log=True)}
    )
    alignment = Alignment(factors={1: {"head.learning_rate": 3.0}})
    alignment.check(space, num_layers=4)
    configuration = Configuration(number=0, hyperparameters={**CONFIGURATION, "head.learning_rate": 0.1})
    found = alignment.aligned(configuration, at(1))
    assert found["head.learning_rate"] == pytest.approx(0.3)
    assert found.head == {}


def test_a_span_gives_every_configuration_a_factor_evenly_by_its_logarithm() -> None:
    alignment = Alignment.parse("1:learning_rate=0.1..100;2:learning_rate=0.1..100,weight_decay=1..10")
    assert alignment.draws
    assert not Alignment.parse("1:learning_rate=3").draws
    many = [replace(CONFIGURATION, number=number) for number in range(300)]
    factors = np.log10([alignment.aligned(one, at(1))["learning_rate"] / 0.02 for one in many])
    assert -1 <= factors.min() < -0.95
    assert 1.95 < factors.max() <= 2
    assert np.histogram(factors, bins=3)[0] == pytest.approx([100, 100, 100], abs=25)
    both = [alignment.aligned(one, at(2)) for one in many]
    assert [one["learning_rate"] for one in both] == [
        alignment.aligned(one, at(1))["learning_rate"] for one in many
    ]
    decays = np.log10([one["weight_decay"] for one in both])
    assert abs(np.corrcoef(factors, decays)[0, 1]) < 0.2


@pytest.mark.parametrize("text", ["1:learning_rate=3..3", "1:learning_rate=30..0.3"])
def test_a_span_rises(text: str) -> None:
    with pytest.raises(AlignmentError, match=r"but must rise: write the smaller first"):
        Alignment.parse(text)


def test_factors_of_one_change_nothing() -> None:
    assert Alignment(factors={1: {"learning_rate": 1.0}, 2: {}}) == IDENTITY
    assert Alignment(factors={1: {"learning_rate": 1.0}}).is_identity
    assert Alignment(factors={2: {"head.learning_rate": 1.0}}).is_identity
    # A head that stays as it is while the others do not is another matter.
    assert Alignment.parse("2:learning_rate=3,head.learning_rate=1").aligned(CONFIGURATION, at(2)).head == {
        "learning_rate": 0.02
    }


names = st.sampled_from(["learning_rate", "head.learning_rate", "weight_decay", "eps"])
spans = st.tuples(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6)).filter(lambda ends: ends[0] < ends[1])
factors = st.floats(1e-6, 1e6) | spans.map(lambda ends: Span(*ends))


@given(st.dictionaries(st.integers(1, 40), st.dictionaries(names, factors)))
def test_its_text_stands_for_it(of_layers: dict[int, dict[str, float | Span]]) -> None:
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
