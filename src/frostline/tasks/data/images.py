"""What image tasks share: moving images about, drawn from a generator of its own."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def shift_images(images: Tensor, generator: torch.Generator, *, by: int = 1) -> Tensor:
    """Return images, each moved by up to ``by`` pixels in both directions.

    Shapes: (batch, channels, rows, columns), as they came.
    What is moved in repeats the edge.
    """
    rows, columns = images.shape[-2:]
    padded = functional.pad(images, (by, by, by, by), mode="replicate")
    moves = torch.randint(2 * by + 1, (2, len(images), 1), generator=generator)
    row_index = moves[0] + torch.arange(rows)
    column_index = moves[1] + torch.arange(columns)
    image_index = torch.arange(len(images))[:, None, None]
    # Advanced indices around a slice put the slice last: (batch, rows, columns, channels).
    moved = padded[image_index, :, row_index[:, :, None], column_index[:, None, :]]
    return moved.movedim(-1, 1).contiguous()
