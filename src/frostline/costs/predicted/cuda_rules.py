"""How CUDA would make a step that is predicted on the CPU's fake tensors: its attention, its optimizers, its own memory.

Nothing of this was measured: it follows torch's sources (ATen/native/transformers/cuda). What cuDNN takes to work in is not
known before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from torch.optim import Optimizer

CUBLAS_BYTES = 2 * 4096 * 1024 + 8 * 16 * 1024
"""What cuBLAS works in, taken from the allocator with the first product and kept; on Hopper it is 32 MiB."""

_FLOAT_BYTES = 4
_HALF = (torch.float16, torch.bfloat16)
_LARGEST_FLASH_HEAD = 256

_aten = torch.ops.aten


class CudaAttention(TorchFunctionMode):
    """Has fused attention computed by the operation that CUDA would choose for these types and shapes."""

    def __torch_function__(
        self, func: Callable[..., Any], _types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Compute attention in CUDA's way, and everything else as it is."""
        if func is functional.scaled_dot_product_attention:
            return _attention(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


# The parameters are torch's own.
def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    kernel = attention_kernel(
        query, key, has_mask=attn_mask is not None, is_causal=is_causal, is_grouped=enable_gqa
    )
    if kernel == "math":
        result = _aten._scaled_dot_product_attention_math(
            query, key, value, attn_mask, dropout_p, is_causal, None, scale=scale, enable_gqa=enable_gqa
        )
    elif kernel == "flash":
        result = _aten._scaled_dot_product_flash_attention(query, key, value, dropout_p, is_causal, scale=scale)
    else:
        bias = None if attn_mask is None else _bias(attn_mask, query, key)
        keeps = torch.is_grad_enabled() and any(each.requires_grad for each in (query, key, value))
        result = _aten._scaled_dot_product_efficient_attention(
            query, key, value, bias, keeps, dropout_p, is_causal, scale=scale
        )
    output: Tensor = result[0]
    return output


def attention_kernel(query: Tensor, key: Tensor, *, has_mask: bool, is_causal: bool, is_grouped: bool) -> str:
    """Return "flash", "efficient" or "math", as a card of Ampere's generation or later chooses."""
    width, is_half = query.shape[-1], query.dtype in _HALF
    is_batched = query.dim() == 4 and (not is_causal or query.shape[-2] == key.shape[-2])
    if is_half and is_batched and not has_mask and width <= _LARGEST_FLASH_HEAD and width % 8 == 0:
        return "flash"
    is_aligned = width % (8 if is_half else 4) == 0
    if (is_half or query.dtype == torch.float32) and is_batched and is_aligned and not is_grouped:
        return "efficient"
    return "math"


def _bias(mask: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """Return what is added to the scores: a mask of yes and no becomes numbers first."""
    if mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill(mask.logical_not(), float("-inf"))
    return mask.expand(query.shape[0], query.shape[1], query.shape[-2], key.shape[-2])


def bytes_inside_on_cuda(operation: Any, arguments: Sequence[Any], _results: Any) -> int:
    """Return the bytes that ``operation`` takes beside its arguments and results, as far as is known."""
    name = operation.__name__.partition(".")[0]
    if name == "_scaled_dot_product_efficient_attention_backward":
        batch, heads, length, _ = arguments[1].shape
        return int(batch * heads * length * _FLOAT_BYTES)
    if name == "_scaled_dot_product_flash_attention_backward":
        batch, heads, length, width = arguments[1].shape
        # A sum of every row, and the queries' gradient added up in single precision, in tiles of 128 rows and 32 columns.
        rows = batch * heads * (-(-length // 128) * 128)
        return int(rows * (1 + -(-width // 32) * 32) * _FLOAT_BYTES)
    return 0


def step_as_on_cuda(optimizer: Optimizer) -> None:
    """Let an optimizer of CPU tensors step as torch has it step on CUDA: all parameters at once, unless it is fused."""
    for group in optimizer.param_groups:
        # Adagrad, which is not fused on CUDA, stays so: its other implementations read how many steps were made.
        if not group.get("fused") and group.get("foreach", False) is None:
            group["foreach"] = True
