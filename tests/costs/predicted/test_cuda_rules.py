"""Steps that are predicted for CUDA: attention, optimizers and blocks as there, without a card."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from frostline.costs.predicted.allocations import LiveBytes
from frostline.costs.predicted.caching_allocator import CachingAllocator
from frostline.costs.predicted.cuda_rules import CUBLAS_BYTES, CudaAttention, attention_kernel, step_as_on_cuda
from frostline.costs.predicted.prediction import StepPredictor, predict_step
from frostline.errors import OptionError, PredictionError
from frostline.tasks.builtin.digits_mlp import digits_mlp
from frostline.tasks.builtin.random_tokens import random_tokens

PLAIN = {"has_mask": False, "is_causal": True, "is_grouped": False}


@pytest.mark.parametrize(
    ("dtype", "width", "options", "kernel"),
    [
        (torch.bfloat16, 64, {}, "flash"),
        (torch.float16, 256, {}, "flash"),
        (torch.bfloat16, 264, {}, "efficient"),
        (torch.bfloat16, 64, {"has_mask": True}, "efficient"),
        (torch.bfloat16, 60, {}, "math"),
        (torch.float32, 64, {}, "efficient"),
        (torch.float32, 64, {"has_mask": True}, "efficient"),
        (torch.float32, 64, {"is_grouped": True}, "math"),
        (torch.float32, 6, {}, "math"),
        (torch.float64, 64, {}, "math"),
    ],
)
def test_attention_is_computed_as_cuda_chooses(
    dtype: torch.dtype, width: int, options: dict[str, bool], kernel: str
) -> None:
    query = torch.empty(2, 3, 8, width, dtype=dtype, device="meta")
    assert attention_kernel(query, query, **{**PLAIN, **options}) == kernel


def kept_by_attention(dtype: torch.dtype, *, masked: bool = False, **options: Any) -> tuple[int, int]:
    """The bytes of outputs, and of the peak of a backward pass on top, of attention over 256 tokens."""
    with FakeTensorMode(), CudaAttention():
        query = torch.empty(2, 4, 256, 64, dtype=dtype, requires_grad=True)
        mask = torch.ones(256, 256, dtype=torch.bool) if masked else None
        allocator = CachingAllocator()
        with LiveBytes(allocator=allocator) as live:
            output: Tensor = functional.scaled_dot_product_attention(query, query, query, mask, **options)
            forward = live.current
            output.sum().backward()
    return forward, allocator.peak - forward


def test_fused_attention_keeps_no_scores_with_dropout_or_a_mask_either() -> None:
    scores = 2 * 4 * 256 * 256 * 4
    plain, _ = kept_by_attention(torch.float32)
    assert plain < scores
    assert kept_by_attention(torch.float32, dropout_p=0.1)[0] < scores
    # The mask as numbers.
    assert plain < kept_by_attention(torch.float32, masked=True)[0] < plain + scores
    assert kept_by_attention(torch.float64)[0] >= 2 * scores


def test_the_backward_pass_of_flash_attention_adds_up_in_single_precision() -> None:
    half, whole = kept_by_attention(torch.bfloat16), kept_by_attention(torch.float32)
    assert half[0] < whole[0]
    assert half[1] >= 2 * 4 * 256 * 64 * 4


def test_a_step_takes_whole_blocks_and_what_cublas_works_in() -> None:
    task = digits_mlp()
    plain, blocks = (predict_step(task, trainable_layers=2, device=device).memory for device in ("cpu", "cuda"))
    assert plain.reserved is None
    assert plain.needed == plain.peak
    assert blocks.reserved is not None
    assert blocks.peak % 512 == 0
    assert plain.peak + CUBLAS_BYTES <= blocks.peak <= plain.peak + CUBLAS_BYTES + 2**20
    assert blocks.needed == blocks.reserved >= blocks.peak
    # Tensors are the same ones.
    assert (blocks.parameters, blocks.gradients, blocks.activations) == (
        plain.parameters,
        plain.gradients,
        plain.activations,
    )


def test_optimizers_that_are_not_fused_step_on_all_parameters_at_once() -> None:
    plain, there = (
        predict_step(
            digits_mlp(), trainable_layers=2, configuration={"optimizer": "RMSprop"}, device=device
        ).memory.peak
        for device in ("cpu", "cuda")
    )
    assert there > plain + CUBLAS_BYTES
    weights = [nn.Parameter(torch.zeros(3))]
    together, fused = torch.optim.RMSprop(weights), torch.optim.AdamW(weights, fused=True)
    for optimizer in (together, fused):
        step_as_on_cuda(optimizer)
    assert together.param_groups[0]["foreach"] is True
    assert not fused.param_groups[0]["foreach"]


def test_a_predictor_for_many_batches_follows_the_same_rules() -> None:
    task = digits_mlp()
    alone = predict_step(task, trainable_layers=2, device="cuda", batch_size=16)
    among = StepPredictor(task, device="cuda").cost(2, 16)
    # What is left of a block and too small to be split off depends on what was taken before.
    assert among.memory.needed == pytest.approx(alone.memory.needed, rel=0.05)
    assert replace(among, memory=alone.memory) == alone


def test_what_cannot_be_predicted_for_cuda_is_one_line() -> None:
    with pytest.raises(
        OptionError, match=r"^device is 'mps', for which no cost is predicted: it must be one of cpu, cuda\.$"
    ):
        predict_step(digits_mlp(), trainable_layers=1, device="mps")
    streamed = replace(random_tokens(context_length=16), frozen_placement="stream")
    with pytest.raises(PredictionError, match="cannot be predicted for cuda: how much of the streamed weights"):
        predict_step(streamed, trainable_layers=1, device="cuda")
