"""A model that was built without memory holds, once filled, the very weights that building it at once would have given."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)

from frostline.errors import ModelError
from frostline.layers import freeze, split_layers
from frostline.layers.weights.deferred import build_deferred, build_shapes, deferred_of, fill
from frostline.tasks.models.gpt import GPT, GPTSettings

TINY = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


class Peculiar(nn.Module):
    """Initialised in all the ways one meets."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent = nn.LSTM(6, 5)
        self.orthogonal = nn.Linear(8, 8)
        nn.init.orthogonal_(self.orthogonal.weight)
        self.truncated = nn.Linear(30, 40)
        nn.init.trunc_normal_(self.truncated.weight, std=1.0)
        self.embedding = nn.Embedding(7, 6, padding_idx=0)
        self.scaled = nn.Linear(6, 6)
        with torch.no_grad():
            self.scaled.weight *= math.sqrt(2)
            self.scaled.weight[0] = self.embedding.weight[3]
            self.scaled.bias.copy_(torch.linspace(0, 1, 6))
        self.halves = nn.Parameter(torch.cat([torch.zeros(3, 4), torch.randn(3, 4)]))
        self.from_numpy = nn.Parameter(torch.from_numpy(np.arange(12, dtype="float32")) * 2)
        self.whole = nn.Linear(6, 6)
        whole = torch.randn(2, 6, 6)
        self.whole.weight.data = whole[1]
        self.permutation: Tensor
        self.register_buffer("permutation", torch.randperm(50))
        self.register_buffer("table", torch.arange(64.0).outer(torch.arange(64.0)).cos())
        self.halves.no_decay = True  # type: ignore[attr-defined]


MODELS: dict[str, Callable[[], nn.Module]] = {
    "peculiar": Peculiar,
    "gpt": partial(GPT, GPTSettings(num_blocks=2, num_heads=2, width=16, context_length=8, vocabulary_size=50)),
    "gpt tied": partial(
        GPT, GPTSettings(num_blocks=2, num_heads=2, width=16, context_length=8, vocabulary_size=50, tied=True)
    ),
    "gpt-2": lambda: GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=8, vocab_size=50)),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(vocab_size=50, num_key_value_heads=2, **TINY)),
    "vit": lambda: ViTForImageClassification(ViTConfig(image_size=8, patch_size=4, **TINY)),
    "resnet": lambda: ResNetForImageClassification(
        ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    ),
}


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(5)
    return build()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("larger_than", [0, 500], ids=["all", "large"])
def test_the_weights_are_those_of_building_at_once(name: str, larger_than: int) -> None:
    expected = seeded(MODELS[name])
    generator = torch.get_rng_state()
    model = seeded(lambda: build_deferred(MODELS[name], larger_than=larger_than))
    assert torch.equal(torch.get_rng_state(), generator)
    assert any(isinstance(each, FakeTensor) for each in model.parameters())
    torch.manual_seed(99)
    fill(model)
    assert deferred_of(model) is None
    ours = model.state_dict(keep_vars=True)
    for key, value in expected.state_dict(keep_vars=True).items():
        assert type(ours[key]) is type(value)
        assert torch.equal(ours[key], value), key
        assert ours[key].requires_grad == value.requires_grad
    ties = [len(list(each.parameters())) for each in (model, expected)]
    assert ties[0] == ties[1]
    for ours_too, buffer in zip(model.buffers(), expected.buffers(), strict=True):
        assert torch.equal(ours_too, buffer)


def test_the_filled_model_trains() -> None:
    model = build_deferred(Peculiar, larger_than=0)
    fill(model)
    assert isinstance(model, Peculiar)
    output, _ = model.recurrent(torch.randn(4, 2, 6))
    output.sum().backward()
    assert all(each.grad is not None for each in model.recurrent.parameters())
    assert model.halves.no_decay is True  # type: ignore[attr-defined]


def test_weights_are_placed_one_at_a_time_under_their_first_name() -> None:
    seen: list[str] = []

    def place(name: str, value: Tensor) -> Tensor:
        seen.append(name)
        assert type(value) is Tensor
        return value.bfloat16()

    model = build_deferred(MODELS["gpt tied"], larger_than=0)
    fill(model, place)
    assert seen == [name for name, _ in model.named_parameters()]
    assert {each.dtype for each in model.parameters()} == {torch.bfloat16}


def test_a_model_without_memory_runs_on_shapes() -> None:
    model = build_deferred(MODELS["gpt"], larger_than=0)
    with torch.no_grad():
        assert model(torch.zeros(2, 8, dtype=torch.long)).shape[:2] == (2, 8)


def test_weights_that_are_kept_elsewhere_are_not_made() -> None:
    model = build_deferred(MODELS["gpt"], larger_than=0)
    name = "blocks.0.attention.projection.weight"
    fill(model, without={name})
    parameter = model.get_parameter(name)
    assert parameter.shape == (16, 16)
    assert parameter.untyped_storage().nbytes() == 4
    assert all(each.is_contiguous() for own, each in model.named_parameters() if own != name)


def test_no_large_tensor_is_made_before_it_is_asked_for() -> None:
    class Large(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            # 40 TB, on no machine: a factory, a fill, an operation on it.
            self.weight = nn.Parameter(torch.empty(10**13).fill_(1.0).mul_(2.0))

    model = build_deferred(Large)
    assert deferred_of(model) is not None


def test_small_models_are_built_at_once() -> None:
    assert deferred_of(build_deferred(MODELS["gpt"])) is None


class KeepsItElsewhere(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.plain = {"scale": torch.randn(10)}
        self.layer = nn.Linear(3, 3)


class ChangesItAfterwards(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        small = torch.ones(4)
        self.weight = nn.Parameter(torch.empty(100, 4).copy_(small))
        small.zero_()


class HandsItToNumpy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.from_numpy(torch.randn(100, 4).numpy() * 2))


class ConvertsIt(nn.Module):
    """Converts a large weight as it is built, and holds no reference that would have torch refuse it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(100, 4)
        self.to(torch.bfloat16)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (KeepsItElsewhere, "plain is neither parameter nor buffer"),
        (ChangesItAfterwards, "was changed after it went into a large one"),
        (HandsItToNumpy, "numpy"),
        # Were it converted, the process would die of it later, or not: see NoticesConversions.
        (ConvertsIt, "a weight is converted while it is built"),
    ],
)
def test_what_cannot_be_made_later_is_made_at_once(
    build: type[nn.Module], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    expected = seeded(build)
    model = seeded(lambda: build_deferred(build, larger_than=30))
    assert deferred_of(model) is None
    assert "all of its weights in memory" in caplog.text
    assert reason in caplog.text
    for ours, theirs in zip(model.parameters(), expected.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_an_error_of_the_model_is_its_own() -> None:
    def build() -> nn.Module:
        raise KeyError("no such width")

    with pytest.raises(KeyError, match="no such width"):
        build_deferred(build)


@pytest.mark.parametrize("name", ["gpt", "gpt tied", "gpt-2", "vit", "resnet"])
@pytest.mark.parametrize("dtype", [None, "bfloat16"])
@pytest.mark.parametrize("placement", ["device", "stream"])
@pytest.mark.parametrize("tied", ["detach", "snapshot"])
def test_freezing_fills_a_model_with_what_it_would_have_made_of_a_whole_one(
    name: str,
    dtype: Literal["bfloat16"] | None,
    placement: Literal["device", "stream"],
    tied: Literal["detach", "snapshot"],
) -> None:
    models = seeded(MODELS[name]), seeded(lambda: build_deferred(MODELS[name], larger_than=0))
    for model in models:
        freeze(model, trainable_layers=2, frozen_dtype=dtype, frozen_placement=placement, tied=tied)
    expected, ours = models
    assert deferred_of(ours) is None
    for (key, value), (_, theirs) in zip(
        ours.state_dict(keep_vars=True).items(), expected.state_dict(keep_vars=True).items(), strict=True
    ):
        assert type(value) is type(theirs), key
        assert value.dtype == theirs.dtype
        assert torch.equal(value.data, theirs.data), key
        assert value.requires_grad == theirs.requires_grad


def test_a_weight_file_that_is_there_is_checked_against_a_model_without_memory(tmp_path: Path) -> None:
    def frozen(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        model = build_deferred(MODELS["gpt"], larger_than=0)
        freeze(model, trainable_layers=1, frozen_placement=tmp_path / "weights")
        return model

    first, second = frozen(0), frozen(0)
    assert torch.equal(
        first.get_parameter("blocks.0.attention.projection.weight"),
        second.get_parameter("blocks.0.attention.projection.weight"),
    )
    with pytest.raises(ModelError, match="of another model"):
        frozen(1)


@pytest.mark.parametrize("name", MODELS)
def test_shapes_alone_have_the_layers_of_the_model(name: str) -> None:
    expected, shapes = (seeded(each) for each in (MODELS[name], lambda: build_shapes(MODELS[name], larger_than=0)))
    named = shapes.state_dict(keep_vars=True)
    for key, value in expected.state_dict(keep_vars=True).items():
        assert (named[key].shape, named[key].dtype) == (value.shape, value.dtype)
    assert any(isinstance(each, FakeTensor) for each in shapes.parameters())
    assert split_layers(shapes) == split_layers(expected)


def test_a_model_that_asks_for_values_is_built_with_what_they_are_made_from() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(20, 20)
            self.scale = 1 / float(self.layer.weight.norm())

    model = seeded(lambda: build_shapes(Scaled, larger_than=0))
    assert deferred_of(model) is not None
    assert model.scale == seeded(Scaled).scale  # type: ignore[attr-defined]
