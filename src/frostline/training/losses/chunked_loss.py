"""Cross-entropy through a linear map, a piece at a time: the logits are never held whole, nor is anything of their size.

Shapes: hidden (N, D), weight (V, D), bias (V,), targets (N,).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from frostline.errors import TaskError

# Rows of logits at a time: every piece reads the whole weight once.
_CHUNK_ROWS = 128


def chunked_cross_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, *, ignore_index: int, is_mean: bool
) -> Tensor:
    """Return ``cross_entropy(linear(hidden, weight, bias), targets)``, the mean over the tokens or their sum.

    Half precision is added up in float32, in which the loss then is. Gradients are computed in the forward pass, where the
    logits are; the backward pass scales and hands them over, once.

    torch's own ``functional.linear_cross_entropy`` (2.13) is the same but for memory: its backward pass holds a second
    tensor of the weight's size, zeros for a gradient that nobody has.
    """
    loss: Tensor = _ChunkedCrossEntropy.apply(hidden, weight, bias, targets, ignore_index, is_mean)  # type: ignore[no-untyped-call]
    return loss


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        ignore_index: int,
        is_mean: bool,
    ) -> Tensor:
        exact = hidden.dtype if hidden.dtype in (torch.float32, torch.float64) else torch.float32
        scale = torch.ones((), dtype=exact, device=hidden.device)
        if is_mean:
            # Without a token that counts the mean is 0 / 0, as it is for torch.
            scale /= (targets != ignore_index).sum()
        gradients = _Gradients(hidden, weight, bias, ctx.needs_input_grad[:3], exact)
        total = torch.zeros((), dtype=exact, device=hidden.device)
        for start in range(0, len(targets), _CHUNK_ROWS):
            rows = slice(start, start + _CHUNK_ROWS)
            total += _piece(rows, hidden, targets, ignore_index, scale, gradients)
        ctx.gradients = gradients
        return total * scale

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise TaskError(
                "the loss asks for the gradient of a gradient (create_graph=True), which a chunked loss does not have: "
                "leave chunked_logits out."
            )
        return (*ctx.gradients.spent(upstream), None, None, None)


# A function of its own, so that what a piece holds is let go before the next one.
def _piece(
    rows: slice,
    hidden: Tensor,
    targets: Tensor,
    ignore_index: int,
    scale: Tensor,
    gradients: _Gradients,
) -> Tensor:
    """Return the sum of the losses of some rows, and add to the gradients."""
    if not gradients.are_wanted:
        logits = functional.linear(hidden[rows], gradients.weight, gradients.bias).to(scale.dtype)
        return functional.cross_entropy(logits, targets[rows], ignore_index=ignore_index, reduction="sum")
    here = targets[rows] != ignore_index
    labels = targets[rows].where(here, 0).unsqueeze(1)
    # One tensor of this size, written over: logits, exponentials, probabilities, gradients.
    logits = functional.linear(hidden[rows], gradients.weight, gradients.bias).to(scale.dtype)
    picked, maxima = logits.gather(1, labels), logits.amax(dim=1, keepdim=True)
    exponentials = logits.sub_(maxima).exp_()
    sums = exponentials.sum(dim=1, keepdim=True)
    losses = sums.log() + maxima - picked
    # Of cross-entropy by the logits: the probabilities, less one for the label.
    by_logits = exponentials.div_(sums)
    by_logits.scatter_add_(1, labels, torch.full_like(losses, -1))
    by_logits.mul_((here.to(scale.dtype) * scale).unsqueeze(1))
    gradients.add(rows, hidden[rows], by_logits)
    return losses.squeeze(1).where(here, 0).sum()


class _Gradients:
    """The gradients of a loss by hidden states, weight and bias, as far as they are wanted."""

    def __init__(
        self, hidden: Tensor, weight: Tensor, bias: Tensor | None, wanted: tuple[bool, ...], exact: torch.dtype
    ) -> None:
        self.are_wanted = any(wanted)
        self.weight, self.bias = weight, bias
        self._dtypes = [None if each is None else each.dtype for each in (hidden, weight, bias)]
        self._hidden = torch.empty_like(hidden) if wanted[0] else None
        # Sums over all pieces, and so not in half precision.
        self._by_weight = torch.zeros_like(weight, dtype=exact) if wanted[1] else None
        self._by_bias = torch.zeros_like(bias, dtype=exact) if bias is not None and wanted[2] else None

    def add(self, rows: slice, hidden: Tensor, by_logits: Tensor) -> None:
        """Take what the rows of a piece give."""
        if self._hidden is not None:
            self._hidden[rows] = by_logits.to(self.weight.dtype) @ self.weight
        if self._by_weight is not None:
            self._by_weight.addmm_(by_logits.t(), hidden.to(by_logits.dtype))
        if self._by_bias is not None:
            self._by_bias += by_logits.sum(dim=0)

    def spent(self, upstream: Tensor) -> list[Tensor | None]:
        """Return the gradients, scaled in place, and forget them.

        Raises: RuntimeError if they were spent before.
        """
        gradients = [self._hidden, self._by_weight, self._by_bias]
        if self.are_wanted and not any(each is not None for each in gradients):
            raise RuntimeError("the chunked loss was run backward before: its gradients are there only once.")
        self._hidden = self._by_weight = self._by_bias = None
        return [
            None if each is None else each.mul_(upstream.to(each.dtype)).to(dtype)
            for each, dtype in zip(gradients, self._dtypes, strict=True)
        ]
