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
_PAGE = 4096
_BLOCK = 16 if "AVX512" in torch.backends.cpu.get_cpu_capability() else 8


def bytes_inside(operation: Any, arguments: Sequence[Any], results: Any) -> int:
    """Return the bytes that ``operation`` held at its peak beside its arguments and its results."""
    name = operation.__name__.partition(".")[0]
    if name.startswith("_linear_cross_entropy_batch_chunked"):
        return _of_chunked_loss(arguments, is_reduced=not name.endswith("no_reduction"))
    if not arguments or not isinstance(arguments[0], Tensor) or arguments[0].device.type != "cpu":
        return 0
    if name in ("convolution", "_convolution", "mkldnn_convolution"):
        return _of_convolution(arguments, results)
    if name == "convolution_backward":
        return _of_convolution_backward(arguments, results)
    if name == "mkldnn_rnn_layer":
        return _of_lstm(arguments)
    if name == "mkldnn_rnn_layer_backward":
        hidden = arguments[8]
        return _of_lstm(arguments) + _copied(arguments[10]) + 2 * _size(hidden)
    if name == "_native_multi_head_attention":
        return _of_whole_attention(arguments[0], arguments[1], arguments[4], results)
    if name == "_transformer_encoder_layer_fwd":
        return _of_encoder_layer(arguments, results)
    if name == "_scaled_dot_product_flash_attention_for_cpu":
        return _of_attention(*arguments[:2])
    if name == "_scaled_dot_product_flash_attention_for_cpu_backward":
        return _of_attention_backward(*arguments[:3])
    return 0


def with_workspace(operation: Any, arguments: Sequence[Any], results: Any) -> Any:
    """Return the results of ``operation``, an LSTM's with the workspace that it keeps for its backward pass.

    On fake tensors that is empty (torch 2.13). It holds gates, states and their gradients at every step of the sequences.
    """
    # It is kept wherever gradients are, whether or not they are asked for: with none it is no tensor.
    is_lstm = operation.__name__.startswith("mkldnn_rnn_layer.") and torch.is_grad_enabled()
    if not is_lstm or results[3].numel():
        return results
    steps, batch, width = _lstm_shape(arguments)
    hidden = arguments[10]
    gates, before = 4 * steps * batch, 8 * (steps + 1) * batch
    spaces = [gates * _aligned(4 * hidden), gates * _aligned(hidden)]
    spaces += 3 * [before * _aligned(max(width, hidden))] + 2 * [before * hidden]
    size = sum(-(-space // _PAGE) * _PAGE for space in spaces)
    return *results[:3], results[0].new_empty(size, dtype=torch.uint8)


def _lstm_shape(arguments: Sequence[Any]) -> tuple[int, int, int]:
    """Return how many steps a fused LSTM makes, for how many sequences, and how many numbers each step is given."""
    steps, batch, width = arguments[0].shape
    return steps, batch, width


def _aligned(width: int) -> int:
    """Return how far apart oneDNN lays rows of ``width`` numbers: whole cache lines, but no multiple of 1 KiB."""
    rounded = -(-width // 16) * 16
    return rounded + 16 if rounded % 256 == 0 else rounded


def _of_lstm(arguments: Sequence[Any]) -> int:
    """Both weights in blocks, the sum of the two biases, and the gates of all steps and of one more."""
    steps, batch, _ = _lstm_shape(arguments)
    gates = _aligned(arguments[1].shape[0])
    return sum(_size(each) for each in arguments[1:4]) + (steps + 1) * batch * gates * _FLOAT_BYTES


def _of_whole_attention(query: Tensor, key: Tensor, heads: int, results: Sequence[Any]) -> int:
    """First queries, keys and values twice; then once, with all scores, which outlast the output if they are asked for."""
    batch, length, _ = query.shape
    scores = batch * heads * length * key.shape[1] * query.element_size()
    made = [_size(each) for each in results]
    asked_for = made[0] + max(made) if sum(made[1:]) else 0
    return int(max(6 * _size(query), 3 * _size(query) + scores + asked_for) - sum(made))


def _of_encoder_layer(arguments: Sequence[Any], result: Tensor) -> int:
    """Attention, or later what is between the two linear maps, beside the inputs that are normalised first or the output."""
    inputs, heads, norm_first, inner = arguments[0], arguments[2], arguments[8], arguments[14]
    attention = _of_whole_attention(inputs, inputs, heads, [result])
    between = _size(inputs) + inputs.numel() * inner.shape[0] // inputs.shape[-1] * inputs.element_size()
    return int(max(attention, between) + norm_first * _size(inputs))


def _size(tensor: Any) -> int:
    return tensor.numel() * tensor.element_size() if isinstance(tensor, Tensor) else 0


def _copied(gradient: Tensor) -> int:
    return 0 if gradient.is_contiguous() else _size(gradient)


def _blocked(tensor: Tensor) -> int:
    """Return the bytes of a tensor whose channels lie in blocks, the last of which is padded."""
    channels = tensor.shape[1]
    return _size(tensor) if channels % 8 == 0 else _size(tensor) // channels * (-(-channels // _BLOCK) * _BLOCK)


def _is_deep(images: Tensor) -> bool:
    """Whether there are more channels than of images in colour, which are read as they are."""
    return images.shape[1] > 4


def _is_plainly_strided(stride: Sequence[int], dilation: Sequence[int], groups: int) -> bool:
    return groups == 1 and any(step > 1 for step in stride) and all(step == 1 for step in dilation)


def _of_convolution(arguments: Sequence[Any], result: Tensor) -> int:
    """Inputs and weight are copied into blocks, the outputs out of them: twice, where strides spread the inputs."""
    inputs, weight, _, stride, _, dilation, transposed, _, groups = arguments[:9]
    in_blocks = _size if transposed or groups > 1 else _blocked
    made = in_blocks(result)
    copies = 2 if transposed and _is_plainly_strided(stride, dilation, groups) else 1
    taken = _size(weight) + (in_blocks(inputs) if transposed or _is_deep(inputs) else 0)
    return max(taken + made - _size(result), made + (copies - 1) * _size(result))


def _of_convolution_backward(arguments: Sequence[Any], results: Sequence[Any]) -> int:
    """First the inputs' gradient is made in blocks and copied out, then the weight's, the former being there by then.

    Where strides spread the gradient it is copied out twice.
    """
    gradient, inputs, weight = arguments[:3]
    stride, _, dilation, transposed, _, groups = arguments[4:10]
    in_blocks = _size if transposed or groups > 1 else _blocked
    for_inputs, for_weight = (_size(each) for each in results[:2])
    first = second = 0
    if for_inputs:
        is_spread = _is_plainly_strided(stride, dilation, groups) and not transposed and _is_deep(inputs)
        copies = 2 if is_spread else 1
        first = in_blocks(results[0]) + max(in_blocks(gradient) + _size(weight), copies * for_inputs)
    if for_weight:
        taken = in_blocks(gradient) + (in_blocks(inputs) if transposed or _is_deep(inputs) else 0)
        second = for_inputs + for_weight + max(taken, for_weight)
    return _copied(gradient) + max(first, second) - for_inputs - for_weight


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
