"""How much an optimizer keeps beside the parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from frostline.layers.cutting.nesting import num_bytes, tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor
    from torch.optim import Optimizer


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
    optimizer.step()
    return num_bytes(tensors([list(state.values()) for state in optimizer.state.values()]))
