"""The models that are measured on a card: those of the benchmarks for the CPU where a card is not too large for them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from population import GPT_128, MODELS, Model, draw_inputs, draw_tokens
from torch import nn

from frostline.tasks.models.gpt import GPT, GPTSettings
from frostline.tasks.models.mlp import MLPSettings, build_mlp
from frostline.tasks.models.resnet import ResNet, ResNetSettings

# 16 blocks of 13 million parameters; a step of 4,096 tokens keeps every card busy.
GPT_1024 = GPTSettings(num_blocks=16, num_heads=16, width=1024, context_length=1024, vocabulary_size=16384)
TINY_GPT = GPTSettings(num_blocks=2, num_heads=2, width=16, context_length=8, vocabulary_size=512)
TINY_RESNET = ResNetSettings(widths=(4, 8, 8), num_channels=3)
TINY_MLP = MLPSettings(num_hidden_layers=2, width=16)


def gpt(settings: GPTSettings, batch_size: int) -> Model:
    return partial(GPT, settings), partial(draw_tokens, settings), batch_size


def images(build: Callable[[], nn.Module], shape: tuple[int, ...]) -> Model:
    return build, partial(draw_inputs, shape), 32


LARGE = "large GPT"
FULL: dict[str, Model] = {
    "MLP": MODELS["mlp"], "small GPT": gpt(GPT_128, 8), "ResNet": MODELS["resnet-18"], LARGE: gpt(GPT_1024, 4),
}  # fmt: skip
TINY: dict[str, Model] = {
    "MLP": images(partial(build_mlp, TINY_MLP), (64,)), "small GPT": gpt(TINY_GPT, 2),
    "ResNet": images(partial(ResNet, TINY_RESNET), (3, 8, 8)), LARGE: gpt(TINY_GPT, 4),
}  # fmt: skip
