"""What of an objective's state can be kept: what ``torch.load`` reads back without running code."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from frostline.errors import ObjectiveError
from frostline.layers.cutting.nesting import map_leaves, map_tensors, parts_of


def with_plain_numbers(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return ``state`` with NumPy's numbers as Python's, such as the mean of some losses, which nobody would read back."""
    plain: Mapping[str, Any] = map_leaves(
        lambda leaf: leaf.item() if isinstance(leaf, np.generic) else leaf, state
    )
    return plain


def check_keepable(state: Mapping[str, Any]) -> None:
    """Raise ObjectiveError, which names what is in the way, unless ``state`` can be written and read back."""
    # Tensors of any size can: their kinds alone are tried out.
    tried = map_tensors(lambda each: torch.empty(0) if type(each) in (Tensor, nn.Parameter) else each, state)
    if not _comes_back(tried):
        where, part = _first_in_the_way("state", tried)
        raise ObjectiveError(
            f"trial.checkpoint got a {type(part).__name__} as {where}, which cannot be read back: give state dicts, "
            f"tensors, and plain values in dicts, lists and tuples."
        )


def _comes_back(value: Any) -> bool:
    file = io.BytesIO()
    try:
        torch.save(value, file)
        file.seek(0)
        torch.load(file, map_location="cpu", weights_only=True)
    except (RuntimeError, TypeError, AttributeError, ValueError, pickle.PickleError):
        return False
    return True


def _first_in_the_way(where: str, value: Any) -> tuple[str, Any]:
    """Return the innermost part of ``value``, itself no part that comes back, that does not come back, and where it is."""
    names, parts = parts_of(value) or ((), ())
    for name, part in zip(names, parts, strict=True):
        if not _comes_back(part):
            return _first_in_the_way(f"{where}[{name!r}]", part)
    return where, value
