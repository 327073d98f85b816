"""What Adam, AdamW and SGD make of gradients, with other numbers for every row of the weights.

Axes: K sessions, P numbers of each. Hyperparameters have the shape (K, 1). Each rule is, to rounding, ``torch.optim``'s own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Group = Mapping[str, Any]
"""A group of an optimizer of torch's: its hyperparameters by torch's names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How an optimizer of torch's updates weights, with tensors in the place of its numbers."""

    moments: tuple[str, ...]
    """What it keeps for every weight, by the names in the optimizer's state."""
    kept: tuple[str, ...]
    """All names in the optimizer's state after a step."""
    refuses: Callable[[Sequence[Group]], str | None]
    """Returns why groups like these cannot be updated at once, or None."""
    numbers: Callable[[Group, int, bool], list[float]]
    """Returns what ``apply`` is to be given for a group's next step, the how-manieth it is, and whether it has a state."""
    apply: Callable[[Tensor, Tensor, Sequence[Tensor], Sequence[Tensor]], None]
    """Updates weights in place by gradients, which it may use up, with moments and numbers."""


_MUST_BE_OFF = ("amsgrad", "maximize", "capturable", "differentiable")


def _common_refusal(groups: Sequence[Group]) -> str | None:
    for group in groups:
        for name in _MUST_BE_OFF:
            if group.get(name):
                return f"{name} is set"
        if any(isinstance(value, Tensor) for name, value in group.items() if name != "params"):
            return "a hyperparameter is a tensor"
        if any(isinstance(value, Tensor) for value in group.get("betas", ())):
            return "a hyperparameter is a tensor"
    return None


def _sgd_refusal(groups: Sequence[Group]) -> str | None:
    if len({(group["momentum"] > 0, group["nesterov"]) for group in groups}) > 1:
        return "some have a momentum and others not"
    if any(group["momentum"] == 0 for group in groups):
        # Without moments a step is so short that nothing is won, and torch has no state of it.
        return "SGD has no momentum"
    return _common_refusal(groups)


def _adam_numbers(group: Group, step: int, _begun: bool) -> list[float]:
    beta1, beta2 = group["betas"]
    rate, decay = group["lr"], group["weight_decay"]
    return [
        1 - rate * decay,
        decay,
        1 - beta1,
        beta2,
        1 - beta2,
        math.sqrt(1 - beta2**step),
        group["eps"],
        -rate / (1 - beta1**step),
    ]


def _adam(weights: Tensor, gradients: Tensor, moments: Sequence[Tensor], numbers: Sequence[Tensor]) -> None:
    _, decay, *_ = numbers
    gradients.addcmul_(weights, decay)
    _moved_by_moments(weights, gradients, moments, numbers)


def _adamw(weights: Tensor, gradients: Tensor, moments: Sequence[Tensor], numbers: Sequence[Tensor]) -> None:
    keep, *_ = numbers
    weights.mul_(keep)
    _moved_by_moments(weights, gradients, moments, numbers)


def _moved_by_moments(
    weights: Tensor, gradients: Tensor, moments: Sequence[Tensor], numbers: Sequence[Tensor]
) -> None:
    mean, square = moments
    _, _, mean_share, beta2, square_share, correction, epsilon, step = numbers
    mean.lerp_(gradients, mean_share)
    square.mul_(beta2).addcmul_(gradients, gradients * square_share)
    weights.addcdiv_(mean * step, square.sqrt().div_(correction).add_(epsilon))


def _sgd_numbers(group: Group, _step: int, begun: bool) -> list[float]:
    momentum = group["momentum"]
    # The first gradient is the momentum, whatever the dampening.
    kept, share = (momentum, 1 - group["dampening"]) if begun else (0.0, 1.0)
    nesterov = float(group["nesterov"])
    return [group["weight_decay"], kept, share, momentum, nesterov, -group["lr"]]


def _sgd(weights: Tensor, gradients: Tensor, moments: Sequence[Tensor], numbers: Sequence[Tensor]) -> None:
    (buffer,) = moments
    decay, kept, share, momentum, nesterov, step = numbers
    gradients.addcmul_(weights, decay)
    buffer.mul_(kept).addcmul_(gradients, share)
    ahead = torch.where(nesterov > 0, gradients.addcmul(buffer, momentum), buffer)
    weights.addcmul_(ahead, step)


_ADAM_STATE = ("exp_avg", "exp_avg_sq")
RULES: dict[type[torch.optim.Optimizer], Rule] = {
    torch.optim.Adam: Rule(
        moments=_ADAM_STATE,
        kept=("step", *_ADAM_STATE),
        refuses=lambda groups: (
            "Adam's weight decay is decoupled"
            if any(group.get("decoupled_weight_decay") for group in groups)
            else _common_refusal(groups)
        ),
        numbers=_adam_numbers,
        apply=_adam,
    ),
    torch.optim.AdamW: Rule(
        moments=_ADAM_STATE,
        kept=("step", *_ADAM_STATE),
        refuses=_common_refusal,
        numbers=_adam_numbers,
        apply=_adamw,
    ),
    torch.optim.SGD: Rule(
        moments=("momentum_buffer",),
        kept=("momentum_buffer",),
        refuses=_sgd_refusal,
        numbers=_sgd_numbers,
        apply=_sgd,
    ),
}
