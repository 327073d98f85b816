"""How much an optimizer keeps beside the parameters, and which of their values it shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from frostline.layers.cutting.nesting import num_bytes, tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor
    from torch.optim import Optimizer


def set_optimizer_mode(optimizer: Optimizer, *, training: bool) -> None:
    """Have an optimizer that has modes put those values into the parameters that are trained, or those that are judged.

    Schedule-free ones (Defazio and others, 2024) compute gradients elsewhere than where a model is best. Most have no modes.
    """
    if has_modes(optimizer):
        getattr(optimizer, "train" if training else "eval")()


def has_modes(optimizer: Optimizer) -> bool:
    """Return whether a model is judged by other weights than it is trained in."""
    return all(callable(getattr(optimizer, name, None)) for name in ("train", "eval"))


def optimizer_state_bytes(
    parameters: Sequence[Tensor], build: Callable[[list[nn.Parameter]], Optimizer], *, device: str | None = None
) -> int:
    """Return the bytes of the state after a step on stand-ins for ``parameters``, on ``device`` or where these are.

    On "meta" nothing is allocated.
    Raises: RuntimeError or NotImplementedError if the optimizer cannot step there.
    """
    shadows = [nn.Parameter(torch.zeros_like(parameter, device=device)) for parameter in parameters]
    for shadow in shadows:
        shadow.grad = torch.zeros_like(shadow)
    optimizer = build(shadows)
    set_optimizer_mode(optimizer, training=True)
    optimizer.step()
    return num_bytes(tensors([list(state.values()) for state in optimizer.state.values()]))
