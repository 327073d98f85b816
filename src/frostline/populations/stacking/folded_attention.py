"""Fused attention inside vmap: the batches of all that is mapped over become one batch."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode


def batched_attention(device: torch.device) -> AbstractContextManager[Any]:
    """Return the context in which vmap can batch fused attention: CUDA's it can by itself (torch 2.13)."""
    return nullcontext() if device.type == "cuda" else _FoldAttention()


_DROPOUT_POSITION = list(inspect.signature(functional.multi_head_attention_forward).parameters).index("dropout_p")


class _FoldAttention(TorchFunctionMode):
    """Computes the attention of K sessions as that of one batch, K times as large."""

    def __torch_function__(
        self, func: Callable[..., Any], _types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is functional.scaled_dot_product_attention:
            return _attention(*args, **kwargs)
        if func is functional.multi_head_attention_forward and _is_free_of_dropout(args, kwargs):
            # What it calls is out of reach from here; asked for the weights too, it computes what vmap can batch.
            return func(*args, **{**kwargs, "need_weights": True})[0], None
        return func(*args, **kwargs)


def _is_free_of_dropout(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Return whether a call as ``nn.MultiheadAttention`` makes it wants no weights, and drops none."""
    is_as_known = len(args) > _DROPOUT_POSITION and not kwargs.get("need_weights", True)
    return is_as_known and not (kwargs.get("training", True) and args[_DROPOUT_POSITION] > 0)


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Return what torch's function of the same arguments returns."""
    if dropout_p > 0:
        # Folded, the sessions would draw different masks; unfolded torch takes a way that vmap can batch.
        return functional.scaled_dot_product_attention(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )
    result: Tensor = _FoldedAttention.apply(  # type: ignore[no-untyped-call]
        query, key, value, attn_mask, is_causal, scale, enable_gqa
    )
    return result


class _FoldedAttention(torch.autograd.Function):
    """Attention with a rule for vmap. Shapes: query (..., T, E), key and value (..., S, E).

    Only what is stacked requires a gradient, and that is found through the rule: ``backward`` is never asked.
    """

    @staticmethod
    def forward(
        query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, is_causal: bool, scale: Any, grouped: bool
    ) -> Tensor:
        return functional.scaled_dot_product_attention(
            query, key, value, mask, is_causal=is_causal, scale=scale, enable_gqa=grouped
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        raise NotImplementedError

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[Tensor, int]:
        *_, mask, is_causal, scale, grouped = inputs
        num = info.batch_size
        leading = [_leading(each, axis, num) for each, axis in zip(inputs[:3], in_dims, strict=False)]
        has_batch = leading[0].dim() > 3
        query, key, value = (each.flatten(0, 1) if has_batch else each for each in leading)
        if mask is not None:
            mask = _leading(mask, in_dims[3], num)
            mask = mask[(slice(None), *[None] * (leading[0].dim() - mask.dim()))]
            if has_batch:
                mask = mask.expand(num, leading[0].shape[1], *mask.shape[2:]).flatten(0, 1)
        result = functional.scaled_dot_product_attention(
            query, key, value, mask, is_causal=is_causal, scale=scale, enable_gqa=grouped
        )
        return result.reshape(num, -1, *result.shape[1:]) if has_batch else result, 0


def _leading(tensor: Tensor, axis: int | None, num: int) -> Tensor:
    return tensor.expand(num, *tensor.shape) if axis is None else tensor.movedim(axis, 0)
