"""Attention inside vmap is that of every member by itself, masks and gradients too, and is computed at once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import vmap
from torch.nn import functional

from frostline.populations.stacking.folded_attention import batched_attention
from tests.training.cases import CPU

NUM_MEMBERS, BATCH, HEADS, QUERIES, KEYS, WIDTH = 3, 2, 4, 5, 6, 8


def drawn(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def attended(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **options: Any) -> Tensor:
    return functional.scaled_dot_product_attention(query, key, value, mask, **options)


MASKS = {
    "none": None,
    "shared": drawn(QUERIES, KEYS, seed=1),
    "padding": drawn(BATCH, 1, 1, KEYS, seed=2) > -1,
    "heads": drawn(HEADS, QUERIES, KEYS, seed=3),
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("masks_differ", [False, True])
@pytest.mark.parametrize("keys_differ", [False, True])
def test_folded_attention_is_that_of_each(mask: Tensor | None, masks_differ: bool, keys_differ: bool) -> None:
    query = drawn(NUM_MEMBERS, BATCH, HEADS, QUERIES, WIDTH).requires_grad_()
    key = drawn(*([NUM_MEMBERS] if keys_differ else []), BATCH, HEADS, KEYS, WIDTH, seed=4)
    if mask is not None and masks_differ:
        shifts = [mask.roll(index, -1) for index in range(NUM_MEMBERS)]
        mask = torch.stack(shifts)
        if mask.is_floating_point():
            mask.requires_grad_()
    in_dims = (0, 0 if keys_differ else None, 0 if mask is not None and masks_differ else None)
    with batched_attention(CPU):
        ours = vmap(lambda query, key, mask: attended(query, key, key, mask), in_dims=in_dims)(query, key, mask)
    theirs = torch.stack(
        [
            attended(
                query[index], *[key[index] if keys_differ else key] * 2, mask[index] if in_dims[2] == 0 else mask
            )
            for index in range(NUM_MEMBERS)
        ]
    )
    torch.testing.assert_close(ours, theirs)
    wanted = [each for each in (query, mask) if each is not None and each.requires_grad]
    for one, other in zip(
        torch.autograd.grad(ours.square().sum(), wanted),
        torch.autograd.grad(theirs.square().sum(), wanted),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("leading", [(), (BATCH,), (BATCH, 3, HEADS)], ids=str)
def test_any_number_of_leading_dimensions_will_do(leading: tuple[int, ...]) -> None:
    query = drawn(NUM_MEMBERS, *leading, QUERIES, WIDTH)
    with batched_attention(CPU):
        ours = vmap(lambda query: attended(query, query, query, None, is_causal=True, scale=0.3))(query)
    torch.testing.assert_close(ours, attended(query, query, query, None, is_causal=True, scale=0.3))


def test_fewer_heads_of_keys_than_of_queries() -> None:
    query, key = drawn(NUM_MEMBERS, BATCH, 4, QUERIES, WIDTH), drawn(NUM_MEMBERS, BATCH, 2, KEYS, WIDTH, seed=4)
    with batched_attention(CPU):
        ours = vmap(lambda query, key: attended(query, key, key, None, enable_gqa=True))(query, key)
    theirs = torch.stack([attended(query[k], key[k], key[k], None, enable_gqa=True) for k in range(NUM_MEMBERS)])
    torch.testing.assert_close(ours, theirs)


def test_every_way_is_batched_by_vmap_itself() -> None:
    query = drawn(NUM_MEMBERS, BATCH, HEADS, QUERIES, WIDTH)
    module = torch.nn.MultiheadAttention(HEADS * WIDTH, HEADS, batch_first=True).double()
    tokens = drawn(NUM_MEMBERS, BATCH, QUERIES, HEADS * WIDTH)
    with pytest.warns(UserWarning, match="performance drop"):
        vmap(lambda query: attended(query, query, query, None))(query)
    # A warning is an error here.
    with batched_attention(CPU):
        ours = vmap(lambda each: module(each, each, each, need_weights=False)[0])(tokens)
    theirs = torch.stack([module(each, each, each, need_weights=False)[0] for each in tokens])
    torch.testing.assert_close(ours, theirs)
