"""Layers of models with PEFT's adapters: those of the model without, as far as something in them is trained."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import GPT2ForSequenceClassification

from frostline.errors import ModelError
from frostline.layers import freeze, split_layers
from frostline.layers.adapters import has_adapters, join_without_adapters, names_before_adapters
from tests.populations.adapter_cases import ADAPTER_CASES, classifier, gpt2, language_model

TOKENS = {"input_ids": torch.ones(1, 4, dtype=torch.long)}


def plain(names: tuple[str, ...]) -> list[str]:
    return [name.removeprefix("base_model.model.") for name in names]


@pytest.mark.parametrize("kind", ["language model", "classifier"])
def test_a_model_with_adapters_has_the_layers_that_it_has_without(kind: str) -> None:
    model = language_model() if kind == "language model" else classifier()
    without = gpt2() if kind == "language model" else gpt2(GPT2ForSequenceClassification)
    stack = split_layers(model, example_inputs=TOKENS)
    expected = split_layers(without, example_inputs=TOKENS)
    assert plain(stack.names) == list(expected.names)
    assert [plain(layer.modules) for layer in stack] == [list(layer.modules) for layer in expected]


def test_a_layer_without_an_adapter_is_no_step_of_fidelity() -> None:
    model = language_model()
    stack = join_without_adapters(split_layers(model, example_inputs=TOKENS), model)
    assert plain(stack.names) == [
        "embedding ... base_model.model.transformer.h.0",
        "transformer.h.1",
        "transformer.h.2 ... head",
    ]
    freeze(model, trainable_layers=1, layers=stack)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert trained
    assert all(".h.2." in name and ".lora_" in name for name in trained)
    # A model that is frozen has the same layers.
    assert join_without_adapters(split_layers(model, example_inputs=TOKENS), model) == stack


def test_the_head_that_is_saved_is_a_layer_of_its_own() -> None:
    model = classifier()
    stack = join_without_adapters(split_layers(model, example_inputs=TOKENS), model)
    assert plain(stack.names)[1:] == ["transformer.h.1", "transformer.h.2", "head"]
    freeze(model, trainable_layers=1, layers=stack)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert trained == ["base_model.model.score.modules_to_save.default.weight"]


def test_nothing_but_adapters_is_joined() -> None:
    model = gpt2().requires_grad_(False)
    stack = split_layers(model, example_inputs=TOKENS)
    assert join_without_adapters(stack, model) is stack
    adapted = language_model().requires_grad_(False)
    stack = split_layers(adapted, example_inputs=TOKENS)
    assert join_without_adapters(stack, adapted) is stack
    with pytest.raises(ModelError, match="nothing would be trained"):
        freeze(adapted, trainable_layers=2, layers=stack)


@pytest.mark.parametrize("case", ADAPTER_CASES, ids=lambda case: case.name)
def test_weights_have_the_names_they_had_before(case) -> None:
    model = case.model()
    before = names_before_adapters(model)
    assert has_adapters(model)
    names = set(before.values())
    assert not any("lora" in name or "base_" in name or "modules_to_save" in name for name in names)
    adapters = [name for name in model.state_dict() if name not in before]
    assert adapters
    assert all("lora_" in name for name in adapters)


def test_names_of_a_model_without_adapters_stay() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    assert not has_adapters(model)
    assert all(name == before for name, before in names_before_adapters(model).items())
    assert set(model.state_dict()) <= set(names_before_adapters(model))


def test_the_copy_of_a_saved_head_has_the_heads_name() -> None:
    before = names_before_adapters(classifier())
    assert len([name for name, old in before.items() if old == "score.weight"]) == 2
