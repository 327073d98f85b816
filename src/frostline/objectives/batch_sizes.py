"""How many samples a batch holds, whatever it is made of."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from frostline.errors import ObjectiveError
from frostline.layers.cutting.nesting import leaves, parts_of

Count = Callable[[Any], int]
"""Returns how many samples a batch holds."""


def num_examples(batch: Any) -> int:
    """Return how many examples a batch holds: the length of the first tensor or array in it, or of a list of other things.

    Raises: ObjectiveError if nobody knows, as of a list that may be one of examples or one of their parts.
    """
    if _is_row(batch) and _are_alike(batch):
        raise ObjectiveError(
            f"a batch is a {type(batch).__name__} whose parts are alike, and may be examples or what all of them have: "
            f"say how they are counted, num_samples=len where they are examples, else num_samples=lambda batch: ..."
        )
    length = _length(batch)
    if length is None:
        raise ObjectiveError(
            f"a batch is a {type(batch).__name__}, and nobody knows how many samples it holds: say how they are counted, "
            f"num_samples=lambda batch: ..."
        )
    return length


def num_of_loaders(batch: Any) -> int:
    """Return the same where a list of batches that are alike is one of each of several loaders: the first counts."""
    return num_of_loaders(batch[0]) if _is_row(batch) and batch and _are_alike(batch) else num_examples(batch)


def whole_count(num_samples: Any) -> int:
    """Return a number of samples that somebody else has counted, which may be a sum of a tensor's or an array's.

    Raises: ObjectiveError if it is no whole number from 0 on.
    """
    try:
        number = num_samples.item() if hasattr(num_samples, "item") else num_samples
        count = int(number) if isinstance(number, float) and number.is_integer() else operator.index(number)
    except (TypeError, ValueError, RuntimeError):
        count = -1
    if count < 0:
        raise ObjectiveError(
            f"a batch is said to hold {num_samples!r:.60} samples: return a whole number from 0 on."
        )
    return count


def _length(value: Any) -> int | None:
    if isinstance(value, str | bytes):
        return None
    if _has_rows(value):
        return int(value.shape[0]) if not isinstance(value, Tensor) else len(value)
    inside = parts_of(value)
    if inside is None:
        # A batch of somebody's own class.
        return len(value) if hasattr(value, "__len__") and not isinstance(value, Tensor) else None
    parts = inside[1]
    first = next((part for part in parts if _has_rows(part)), None)
    if first is not None:
        return _length(first)
    if _is_row(value) and not any(_has_rows(leaf) for leaf in leaves(value)):
        return len(value)
    lengths = (_length(part) for part in parts if parts_of(part) is not None)
    return next((length for length in lengths if length is not None), None)


def _has_rows(value: Any) -> bool:
    """Return whether ``value`` is a tensor, an array or a table with at least one dimension."""
    if isinstance(value, Tensor):
        return value.dim() > 0
    shape = getattr(value, "shape", None)
    return isinstance(shape, tuple) and len(shape) > 0


def _is_row(value: Any) -> bool:
    # A named tuple knows what its parts are.
    return type(value) in (tuple, list)


def _are_alike(row: Sequence[Any]) -> bool:
    """Return whether a row consists of containers of the same form: pairs, or mappings of the same names."""
    forms = {(type(part), tuple(names[0])) for part in row if (names := parts_of(part)) is not None}
    return len(forms) == 1 and all(parts_of(part) is not None for part in row)
