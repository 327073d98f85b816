"""Which examples each batch holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from frostline.seeding import derive_seed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

Place = tuple[int, list[int]]
"""Where in the stream of examples a batch begins, and the indices of its examples."""


def shuffled_places(size: int, *, batch_size: int, seed: int, skip_examples: int = 0) -> Iterator[Place]:
    """Yield the batches of ``size`` examples without end, from after ``skip_examples``.

    The examples form one stream, a new permutation every epoch, that depends on ``seed`` alone; a batch is the
    next ``batch_size`` of it, across the end of an epoch too. So every batch is full, another batch size sees the
    same examples in the same order, and any position can be gone on from.
    """
    position = skip_examples
    epoch, offset = divmod(skip_examples, size)
    waiting = _permutation(size, seed, epoch)[offset:]
    while True:
        # All at once: a batch may hold many epochs.
        num_epochs = max(0, -(-(batch_size - len(waiting)) // size))
        if num_epochs:
            following = (_permutation(size, seed, epoch + 1 + index) for index in range(num_epochs))
            waiting = torch.cat([waiting, *following])
            epoch += num_epochs
        yield position, waiting[:batch_size].tolist()
        waiting = waiting[batch_size:]
        position += batch_size


def ordered_places(size: int, *, batch_size: int) -> Iterator[Place]:
    """Yield the batches of all examples once, in their order; the last one may be smaller."""
    for start in range(0, size, batch_size):
        yield start, list(range(start, min(start + batch_size, size)))


def _permutation(size: int, seed: int, epoch: int) -> Tensor:
    generator = torch.Generator().manual_seed(derive_seed(seed, "data", epoch))
    return torch.randperm(size, generator=generator, device="cpu")
