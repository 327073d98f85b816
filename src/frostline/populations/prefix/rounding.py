"""Whether tensors that were computed in two ways are the same but for rounding."""

from __future__ import annotations

import torch
from torch import Tensor

# Of a few thousand operations, and of a matrix product whose rows lie elsewhere, in units of the number type's precision.
_PRECISIONS = 1e3
# In half precision a thousand of these would allow anything.
_MOST = 0.02


def is_same_but_for_rounding(found: Tensor, expected: Tensor) -> bool:
    """Return whether two floating-point tensors are of one shape and, relative to their norm, differ by rounding alone."""
    if found.shape != expected.shape:
        return False
    tolerance = min(_PRECISIONS * torch.finfo(expected.dtype).eps, _MOST)
    return bool(torch.linalg.vector_norm(found - expected) <= tolerance * torch.linalg.vector_norm(expected))
