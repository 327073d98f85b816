"""FLOPs are those of the definitions, whatever kernel runs and whether the tensors are real or fake."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from frostline.costs.predicted.flops import count_flops

BATCH, HEADS, QUERIES, KEYS, WIDTH = 2, 3, 16, 24, 8
PRODUCT = 2 * BATCH * HEADS * QUERIES * KEYS * WIDTH

chunked = pytest.mark.skipif(
    not hasattr(functional, "linear_cross_entropy"), reason="torch has no chunked loss before 2.13"
)


def heads(length: int, *, number: int = HEADS) -> Tensor:
    return torch.randn(BATCH, number, length, WIDTH, requires_grad=True)


def attention_flops(backend: SDPBackend, *, causal: bool = False, mask: bool = False) -> tuple[int, int]:
    query, key, value = heads(QUERIES), heads(KEYS), heads(KEYS)
    hidden = torch.zeros(QUERIES, KEYS) if mask else None
    with sdpa_kernel(backend):
        mixed, forward = count_flops(
            lambda: functional.scaled_dot_product_attention(query, key, value, attn_mask=hidden, is_causal=causal)
        )
        _, backward = count_flops(mixed.sum().backward)
    return forward, backward


@pytest.mark.parametrize("options", [{}, {"causal": True}, {"mask": True}], ids=str)
def test_fused_attention_counts_the_products_of_plain_attention_and_the_scores_made_again(
    options: dict[str, bool],
) -> None:
    forward, backward = attention_flops(SDPBackend.MATH, **options)
    assert forward == 2 * PRODUCT
    assert backward == 4 * PRODUCT
    assert attention_flops(SDPBackend.FLASH_ATTENTION, **options) == (forward, 5 * PRODUCT)


def test_attention_counts_on_fake_tensors_as_on_real_ones() -> None:
    with FakeTensorMode():
        counted = attention_flops(SDPBackend.FLASH_ATTENTION, causal=True)
    assert counted == attention_flops(SDPBackend.FLASH_ATTENTION, causal=True)


def test_a_linear_map_counts_two_per_weight_and_example_and_twice_that_backward() -> None:
    layer = torch.nn.Linear(12, 20)
    inputs = torch.randn(5, 12, requires_grad=True)
    outputs, forward = count_flops(lambda: layer(inputs))
    _, backward = count_flops(outputs.sum().backward)
    assert outputs.shape == (5, 20)
    assert (forward, backward) == (2 * 5 * 12 * 20, 4 * 5 * 12 * 20)


def test_a_convolution_counts_its_products() -> None:
    convolution = torch.nn.Conv2d(3, 8, 3, padding=1, bias=False)
    images = torch.randn(2, 3, 10, 10)
    outputs, forward = count_flops(lambda: convolution(images))
    _, backward = count_flops(outputs.sum().backward)
    products = 2 * 2 * 8 * 10 * 10 * 3 * 9
    assert (forward, backward) == (products, products)  # the images want no gradient


def test_products_added_in_place_count_as_the_others_do() -> None:
    total, left, right = torch.zeros(4, 6), torch.randn(4, 5), torch.randn(5, 6)
    assert count_flops(lambda: total.addmm_(left, right))[1] == 2 * 4 * 5 * 6
    totals, lefts, rights = torch.zeros(3, 4, 6), torch.randn(3, 4, 5), torch.randn(3, 5, 6)
    assert count_flops(lambda: totals.baddbmm_(lefts, rights))[1] == 3 * 2 * 4 * 5 * 6


def test_a_layer_that_torch_fuses_where_nothing_is_trained_counts_what_it_does_elsewhere() -> None:
    layer = torch.nn.TransformerEncoderLayer(8, 2, 20, dropout=0.0, batch_first=True)
    inputs = torch.randn(3, 5, 8)
    _, trained = count_flops(lambda: layer(inputs))
    layer.eval()
    with torch.no_grad():
        _, fused = count_flops(lambda: layer(inputs))
        _, attention = count_flops(lambda: layer.self_attn(inputs, inputs, inputs))
    assert fused == trained == attention + 2 * 2 * inputs.numel() * 20


@pytest.mark.parametrize("fake", [False, True], ids=["real", "fake"])
def test_an_lstm_counts_its_products_at_every_step(fake: bool) -> None:
    def both() -> tuple[int, int]:
        layer = torch.nn.LSTM(6, 7, num_layers=2, batch_first=True)
        inputs = torch.randn(3, 5, 6)
        outputs, forward = count_flops(lambda: layer(inputs)[0])
        _, backward = count_flops(outputs.sum().backward)
        return forward, backward

    forward, backward = in_fake_mode(both) if fake else both()
    assert forward == 2 * 3 * 5 * 4 * 7 * (6 + 7 + 7 + 7)
    assert backward == 2 * forward


def no_operation() -> None:
    return None


def test_what_computes_nothing_counts_nothing() -> None:
    assert count_flops(no_operation) == (None, 0)


@chunked
@pytest.mark.parametrize("fake", [False, True], ids=["real", "fake"])
@pytest.mark.parametrize("hidden_trained", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_the_chunked_loss_counts_the_products_it_hides(reduction: str, hidden_trained: bool, fake: bool) -> None:
    def losses() -> tuple[int, int]:
        hidden = torch.randn(64, 8, requires_grad=hidden_trained)
        weight = torch.randn(100, 8, requires_grad=True)
        targets = torch.zeros(64, dtype=torch.long)
        options = torch.nn.LinearCrossEntropyOptions()

        def loss() -> Tensor:
            return functional.linear_cross_entropy(hidden, weight, targets, reduction=reduction, options=options)

        value, forward = count_flops(loss)
        return forward, count_flops(value.sum().backward)[1]

    product = 2 * 64 * 8 * 100
    with_gradients = (2 + hidden_trained) * product
    expected = {"mean": (with_gradients, 0), "none": (product, with_gradients)}[reduction]
    assert (in_fake_mode(losses) if fake else losses()) == expected


def in_fake_mode(function: Callable[[], tuple[int, int]]) -> tuple[int, int]:
    with FakeTensorMode():
        return function()
