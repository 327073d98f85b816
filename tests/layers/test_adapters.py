"""Models with PEFT's adapters: their layers are those of the model without, and weights are known by their old names."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import GPT2ForSequenceClassification

from frostline.layers import split_layers
from frostline.layers.adapters import has_adapters, names_before_adapters
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
