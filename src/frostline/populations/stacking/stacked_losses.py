"""The losses of several models of one structure as one computation: their weights stacked, mapped over by vmap."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

if TYPE_CHECKING:
    from frostline.protocols import Batch, Task

Losses = Callable[[dict[str, Tensor], "Batch"], Tensor]
"""Maps stacked tensors, by canonical name, and a batch on the device to the losses, of shape (K,)."""


def stacked_losses(
    task: Task, model: nn.Module, names: Mapping[str, str], frozen: frozenset[str], *, compiled: bool
) -> Losses:
    """Return the function from stacked tensors and a batch to the losses; ``names`` leads to the stacked ones' names."""
    runner = _Runner(task, model)

    def losses_of(stacks: dict[str, Tensor], batch: Batch) -> Tensor:
        def loss_of(tensors: dict[str, Tensor]) -> Tensor:
            # What a frozen layer holds of a tied weight is cut off here: inside vmap, no tensor says that it requires a
            # gradient, and the frozen layers' own hooks would let it pass (torch 2.13).
            swapped = {
                f"model.{name}": tensors[other].detach() if name in frozen else tensors[other]
                for name, other in names.items()
                if other in tensors
            }
            value: Tensor = functional_call(runner, swapped, (batch,), tie_weights=False)
            return value

        losses: Tensor = vmap(loss_of, randomness="same")(stacks)
        return losses

    if not compiled:
        return losses_of
    # The compiler counts what it makes of one code object, and gives up at the eighth.
    losses_of.__code__ = losses_of.__code__.replace()
    # Its own random numbers are others than those of the sessions one by one.
    return torch.compile(losses_of, fullgraph=True, dynamic=False, options={"fallback_random": True})


class _Runner(nn.Module):
    """A task's loss as a module, whose tensors ``functional_call`` can swap."""

    def __init__(self, task: Task, model: nn.Module) -> None:
        super().__init__()
        self.task = task
        self.model = model

    def forward(self, batch: Batch) -> Tensor:
        return self.task.loss(self.model, batch)
