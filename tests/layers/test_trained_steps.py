"""Layers as steps of fidelity: there is something to train in each from the first trained one on."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from frostline.errors import ModelError
from frostline.layers import freeze, split_layers
from frostline.layers.trained_steps import split_into_steps
from tests.populations.adapter_cases import classifier, gpt2, language_model

TOKENS = {"input_ids": torch.ones(1, 4, dtype=torch.long)}


def plain(names: tuple[str, ...]) -> list[str]:
    return [name.removeprefix("base_model.model.") for name in names]


def trained(model: nn.Module) -> list[str]:
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def chain(*are_trained: bool) -> nn.Sequential:
    return nn.Sequential(*(nn.Linear(2, 2).requires_grad_(is_trained) for is_trained in are_trained))


def test_a_layer_without_an_adapter_is_no_step() -> None:
    model = language_model()
    stack = split_into_steps(model, example_inputs=TOKENS)
    assert plain(stack.names) == [
        "embedding ... base_model.model.transformer.h.0",
        "transformer.h.1",
        "transformer.h.2 ... head",
    ]
    freeze(model, trainable_layers=1, layers=stack)
    assert trained(model)
    assert all(".h.2." in name and ".lora_" in name for name in trained(model))
    # A model that is frozen has the same layers.
    assert split_into_steps(model, example_inputs=TOKENS) == stack


def test_the_head_that_is_saved_is_a_layer_of_its_own() -> None:
    model = classifier()
    stack = split_into_steps(model, example_inputs=TOKENS)
    assert plain(stack.names)[1:] == ["transformer.h.1", "transformer.h.2", "head"]
    freeze(model, trainable_layers=1, layers=stack)
    assert trained(model) == ["base_model.model.score.modules_to_save.default.weight"]


def test_a_model_with_adapters_is_frozen_by_one_line() -> None:
    model = language_model()
    freeze(model, trainable_layers=1)
    assert trained(model)
    assert all(".h.2." in name and ".lora_" in name for name in trained(model))


@pytest.mark.parametrize(
    ("are_trained", "expected"),
    [
        ((True, True, True), ["0", "1", "2"]),
        ((True, True, False), ["0", "1 ... 2"]),
        ((True, False, True), ["0 ... 1", "2"]),
        # What a user froze in front may be frozen here as well, and costs less then.
        ((False, False, True), ["0", "1", "2"]),
        ((False, True, False), ["0", "1 ... 2"]),
        ((False, False, False), ["0", "1", "2"]),
    ],
)
def test_what_is_not_trained_joins_what_is(are_trained: tuple[bool, ...], expected: list[str]) -> None:
    assert list(split_into_steps(chain(*are_trained)).names) == expected


def test_a_model_in_which_nothing_is_trained_is_refused() -> None:
    for model in (gpt2().requires_grad_(False), language_model().requires_grad_(False)):
        assert split_into_steps(model, example_inputs=TOKENS) == split_layers(model, example_inputs=TOKENS)
        with pytest.raises(ModelError, match="nothing would be trained"):
            freeze(model, trainable_layers=2, example_inputs=TOKENS)
