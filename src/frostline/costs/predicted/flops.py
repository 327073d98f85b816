"""How many floating-point operations something takes: torch's own counter, and the kernels that it misses."""

from __future__ import annotations

import importlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch.utils.flop_counter import (
    FlopCounterMode,
    sdpa_backward_flop_count,
    sdpa_flop_count,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Result = TypeVar("Result")
_Shape = torch.Size


def count_flops(function: Callable[[], Result]) -> tuple[Result, int]:
    """Call ``function``; return its result and the FLOPs of the matrix products, convolutions and attention in it.

    Units: a multiplication and an addition are two. Forward and backward are told apart by counting them in two calls.
    Shapes alone decide, so that fake and real tensors count the same; other operations count nothing.

    Layers that torch fuses into one operation where nothing is trained, or on the CPU an LSTM, count what is inside them.

    Attention counts the products of its definition whatever kernel runs it: two forward; five backward in a fused kernel,
    which makes the scores a second time, four in the plain one. A causal mask is no discount: the half of the scores that
    it hides is counted, although the CPU's fused kernel skips most of it.
    """
    counter = FlopCounterMode(display=False, custom_mapping=_missed_kernels())
    # The counter's own tracker takes a view of every module's outputs, which would compute logits that are kept lazy.
    counter.mod_tracker = _NoModules()  # type: ignore[assignment]
    with counter:
        result = function()
    return result, int(counter.get_total_flops())


class _NoModules:
    """Stands for the counter's tracker of modules: all is counted under one name."""

    parents = frozenset({"Global"})

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...


def _missed_kernels() -> dict[Any, Callable[..., int]]:
    """The kernels that torch's counter has no formula for (2.13), and theirs."""
    aten = torch.ops.aten
    missed: dict[Any, Callable[..., int]] = {
        aten._scaled_dot_product_flash_attention_for_cpu: _attention,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
        aten.addmm_: _product_added,
        aten.baddbmm_: _product_added,
        aten.mkldnn_rnn_layer: _recurrent,
        aten.mkldnn_rnn_layer_backward: _recurrent_backward,
        aten._native_multi_head_attention: _whole_attention,
        aten._transformer_encoder_layer_fwd: _encoder_layer,
    }
    # Before 2.13 there is no such module; from then on it is imported, and its operators made, when one is first called.
    with suppress(ImportError):
        importlib.import_module("torch.nn.modules.linear_cross_entropy")
        chunked = torch.ops.torch_nn
        missed[chunked._linear_cross_entropy_batch_chunked] = _chunked_loss
        missed[chunked._linear_cross_entropy_batch_chunked_no_reduction] = _chunked_losses
    return missed


def _product_added(_total: _Shape, left: _Shape, right: _Shape, **_more: Any) -> int:
    """One product, or one for each of a batch."""
    return 2 * left.numel() * right[-1]


def _attention(query: _Shape, key: _Shape, value: _Shape, *_options: Any, **_more: Any) -> int:
    return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]


def _attention_backward(
    gradient: _Shape, query: _Shape, key: _Shape, value: _Shape, *_options: Any, **_more: Any
) -> int:
    return int(sdpa_backward_flop_count(gradient, query, key, value))  # type: ignore[no-untyped-call]


def _recurrent(inputs: _Shape, from_inputs: _Shape, from_states: _Shape, *_more: Any, **_others: Any) -> int:
    """The CPU's fused LSTM: a product with the inputs and one with the states before, at each step of the sequences."""
    num_steps = inputs[0] * inputs[1]
    return 2 * num_steps * (from_inputs.numel() + from_states.numel())


def _recurrent_backward(*operands: Any, **others: Any) -> int:
    """The gradients of the inputs too, whether or not anybody asks for them, and of both weights."""
    return 2 * _recurrent(*operands, **others)


def _whole_attention(query: _Shape, key: _Shape, _value: _Shape, width: int, *_more: Any, **_others: Any) -> int:
    """What nothing trained runs as one operation: queries, keys and values, attention itself, and what comes of it."""
    batch, length, _ = query
    others = key[1]
    projections = 4 * width * batch * (length + others) * width
    return projections + 4 * batch * length * others * width


def _encoder_layer(inputs: _Shape, width: int, *more: Any, **_others: Any) -> int:
    """A whole layer of ``nn.TransformerEncoder`` as one operation: attention and two linear maps."""
    inner = more[12]
    return int(_whole_attention(inputs, inputs, inputs, width) + 4 * inputs.numel() * inner[0])


def _chunked_loss(
    hidden: _Shape, weight: _Shape, *_options: Any, out_shape: Sequence[_Shape], **_more: Any
) -> int:
    """One product for the logits, and one for each gradient that is computed with them, of hidden states and of weights.

    Whatever the chunks, they add up to the same; the backward pass only scales what is there already.
    """
    gradients = sum(1 for shape in out_shape[1:3] if shape.numel())
    return (1 + gradients) * _logits(hidden, weight)


def _chunked_losses(hidden: _Shape, weight: _Shape, *_options: Any, **_more: Any) -> int:
    """One product: the gradients are made in the backward pass, by operations that are counted."""
    return _logits(hidden, weight)


def _logits(hidden: _Shape, weight: _Shape) -> int:
    return 2 * hidden[0] * hidden[1] * weight[0]
