"""Models with PEFT's adapters, small and in float64, as tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from peft import LoraConfig, get_peft_model
from torch import nn
from torch.utils.data import TensorDataset
from transformers import GPT2Config, GPT2ForSequenceClassification, GPT2LMHeadModel

from frostline.tasks.models.gpt import next_token_loss
from tests.populations.cases import Case, gpt, tokens


def with_adapters(model: nn.Module, **settings: Any) -> nn.Module:
    """The model with rank-2 adapters that already do something: B is not zero."""
    return get_peft_model(model, LoraConfig(**{"r": 2, "init_lora_weights": False, **settings}))


def gpt2(kind: type[nn.Module] = GPT2LMHeadModel, *, blocks: int = 3) -> nn.Module:
    return kind(
        GPT2Config(
            n_layer=blocks,
            n_embd=16,
            n_head=2,
            n_positions=16,
            vocab_size=32,
            num_labels=3,
            bos_token_id=0,
            eos_token_id=0,
            pad_token_id=0,
            attn_pdrop=0.0,
            embd_pdrop=0.1,
        )
    )


def language_model() -> nn.Module:
    return with_adapters(gpt2(), target_modules=["c_attn"], fan_in_fan_out=True)


def classifier() -> nn.Module:
    return with_adapters(
        gpt2(GPT2ForSequenceClassification),
        target_modules=["c_attn", "c_fc"],
        fan_in_fan_out=True,
        lora_dropout=0.2,
        modules_to_save=["score"],
    )


def plain_gpt() -> nn.Module:
    return with_adapters(gpt()(), target_modules=["query_key_value", "projection"], use_dora=True)


def labelled(seed: int) -> TensorDataset:
    inputs = tokens(seed).tensors[0].clamp(min=1)
    return TensorDataset(inputs, inputs.sum(dim=1) % 3)


def _case(name: str, model: Callable[[], nn.Module], **rest: Any) -> Case:
    return Case(name=name, model=model, data=tokens, loss=next_token_loss, **rest)


ADAPTER_CASES = (
    _case("language model", language_model, layers=(1, 2, 3)),
    Case(name="classifier", model=classifier, data=labelled, loss=nn.functional.cross_entropy, layers=(1, 2, 4)),
    _case("plain GPT of DoRA", plain_gpt, layers=(1, 3)),
)
