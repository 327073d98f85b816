"""What kernels take inside themselves: memory that no operation returns, and that only the allocator sees.

Read off the allocator's own events on an x86 CPU with torch 2.13 (oneDNN's convolutions work on copies in blocks, fused
attention on tiles); another processor may take less.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

_FLOAT_BYTES = 4


def bytes_inside(operation: Any, arguments: Sequence[Any], results: Any) -> int:
    """Return the bytes that ``operation`` held at its peak beside its arguments and its results."""
    name = operation.__name__.partition(".")[0]
    if name.startswith("_linear_cross_entropy_batch_chunked"):
        return _of_chunked_loss(arguments, is_reduced=not name.endswith("no_reduction"))
    if not arguments or not isinstance(arguments[0], Tensor) or arguments[0].device.type != "cpu":
        return 0
    if name in ("convolution", "_convolution", "mkldnn_convolution"):
        return max(_size(arguments[0]) + _size(arguments[1]), _size(results))
    if name == "convolution_backward":
        return _of_convolution_backward(arguments, results)
    if name == "_scaled_dot_product_flash_attention_for_cpu":
        return _of_attention(*arguments[:2])
    if name == "_scaled_dot_product_flash_attention_for_cpu_backward":
        return _of_attention_backward(*arguments[:3])
    return 0


def _size(tensor: Any) -> int:
    return tensor.numel() * tensor.element_size() if isinstance(tensor, Tensor) else 0


def _copied(gradient: Tensor) -> int:
    return 0 if gradient.is_contiguous() else _size(gradient)


def _of_convolution_backward(arguments: Sequence[Any], results: Sequence[Any]) -> int:
    """First the inputs' gradient is made in blocks and copied out, then the weight's, the former being there by then."""
    gradient, inputs, weight = (_size(each) for each in arguments[:3])
    for_inputs, for_weight = (_size(each) for each in results[:2])
    first = for_inputs + max(gradient + weight, for_inputs) if for_inputs else 0
    second = for_inputs + for_weight + max(inputs + gradient, for_weight) if for_weight else 0
    return _copied(arguments[0]) + max(first, second) - for_inputs - for_weight


def _tile(query: Tensor, key: Tensor) -> tuple[int, int]:
    """Rows and columns of the scores that fused attention makes at a time. Source: FlashAttentionKernel.cpp."""
    length = query.shape[-2]
    rows = 256 if length >= 768 else 64 if length >= 192 else 32
    return min(rows, length), min(512, key.shape[-2])


def _of_attention(query: Tensor, key: Tensor) -> int:
    """Every thread has a tile of scores, two numbers per row of it, and its outputs."""
    rows, columns = _tile(query, key)
    return torch.get_num_threads() * rows * (columns + 2 + query.shape[-1]) * _FLOAT_BYTES


def _of_attention_backward(gradient: Tensor, query: Tensor, key: Tensor) -> int:
    """Every thread has a tile of scores and one of their gradients; the outputs' gradient is read token by token."""
    rows, columns = _tile(query, key)
    return _copied(gradient.transpose(1, 2)) + torch.get_num_threads() * 2 * rows * columns * _FLOAT_BYTES


def _of_chunked_loss(arguments: Sequence[Any], *, is_reduced: bool) -> int:
    """A chunk's logits and two tensors of its hidden states, and what a wider type than the weight's needs.

    That is the weight and, unless gradients are summed in place ("compact"), a chunk's gradient of it, which is then
    subtracted by way of two copies. Source: torch/nn/modules/linear_cross_entropy.py of torch 2.13.
    """
    hidden, weight = arguments[:2]
    chunk, policy, wide = arguments[8:11] if is_reduced else arguments[6:9]
    taken = chunk * (weight.shape[0] + 2 * hidden.shape[1])
    if hidden.dtype != wide:
        taken += weight.numel() + hidden.numel()
    if is_reduced and arguments[13] and policy != "compact":
        taken += weight.numel() * (3 if hidden.dtype != wide else 1)
    return int(taken * wide.itemsize)
