"""Batches in memory that a card reads by itself, so that the host need not wait until it has done so."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from frostline.layers.cutting.nesting import map_tensors

if TYPE_CHECKING:
    from frostline.protocols import Batch
    from frostline.training.machine.devices import DevicePlan


def pinned_batches(batches: Iterable[Batch], plan: DevicePlan) -> Iterator[Batch]:
    """Yield CPU batches; for CUDA with their tensors in pinned memory, if ``plan`` says so, else as they are.

    Torch keeps the memory of a batch that nobody holds any more until its copy to the card has ended.
    """
    if plan.device.type != "cuda" or not plan.pins_batches:
        yield from batches
        return
    for batch in batches:
        yield map_tensors(_pinned, batch)


def _pinned(tensor: Tensor) -> Tensor:
    is_plain = tensor.device.type == "cpu" and tensor.layout == torch.strided
    return tensor.pin_memory() if is_plain and not tensor.is_pinned() else tensor
