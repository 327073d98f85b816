"""Tensors inside the tuples, lists, mappings and dataclasses that models hand around.

Unlike ``torch.utils._pytree`` these need no registration: a mapping or a dataclass of anybody's is looked into.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

# A model is compiled with what looks into its arguments here, and torch 2.6 compiles neither a check for `tuple | list` nor
# `dataclasses.is_dataclass`.
_ROWS = (tuple, list)


def parts_of(value: Any) -> tuple[Sequence[Any], Sequence[Any]] | None:
    """Return the names (or places) and the parts of a container; None for a tensor and all that is no container."""
    if isinstance(value, Tensor):
        return None
    if isinstance(value, _ROWS):
        return range(len(value)), value
    if isinstance(value, Mapping):
        return list(value.keys()), list(value.values())
    if hasattr(value, "__dataclass_fields__") and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return names, [getattr(value, name) for name in names]
    return None


def map_leaves(
    function: Callable[[Any], Any], value: Any, *, is_leaf: Callable[[Any], bool] = lambda _: False
) -> Any:
    """Return ``value`` with every leaf replaced, in containers of the same kinds; the original stays as it was.

    A leaf is a tensor, what is no container, and what ``is_leaf`` says is one.
    """
    if isinstance(value, Tensor):
        return function(value)
    inside = None if is_leaf(value) else parts_of(value)
    if inside is None:
        return function(value)
    names, parts = inside
    mapped = [map_leaves(function, part, is_leaf=is_leaf) for part in parts]
    if isinstance(value, _ROWS):
        return _row_like(value, mapped)
    if isinstance(value, Mapping):
        return _mapping_like(value, dict(zip(names, mapped, strict=True)))
    return _dataclass_like(value, dict(zip(names, mapped, strict=True)))


def _row_like(row: Any, parts: list[Any]) -> Any:
    if type(row) in _ROWS:
        return type(row)(parts)
    made = type(row)(*parts) if hasattr(row, "_fields") else type(row)(parts)
    for name, value in getattr(row, "__dict__", {}).items():
        setattr(made, name, value)
    return made


def _mapping_like(mapping: Any, items: dict[Any, Any]) -> Any:
    if not hasattr(mapping, "__setitem__"):
        return type(mapping)(items)
    # A copy keeps the class, as of the outputs of transformers, whose items are attributes too.
    copied = copy.copy(mapping)
    for name, part in items.items():
        copied[name] = part
    return copied


def _dataclass_like(value: Any, fields: dict[str, Any]) -> Any:
    if all(field.init for field in dataclasses.fields(value)):
        return dataclasses.replace(value, **fields)
    copied = copy.copy(value)
    for name, part in fields.items():
        object.__setattr__(copied, name, part)  # a frozen one refuses to be written to
    return copied


def map_tensors(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """Return ``value`` with every tensor in it replaced, as ``map_leaves`` does.

    Objects of other kinds pass as they are: a cache of keys and values must stay itself.
    """
    return map_leaves(lambda leaf: function(leaf) if isinstance(leaf, Tensor) else leaf, value)


def leaves(value: Any) -> Iterator[Any]:
    """Yield the leaves that ``map_leaves`` replaces, in order."""
    inside = parts_of(value)
    if inside is None:
        yield value
        return
    for part in inside[1]:
        yield from leaves(part)


def tensors(value: Any) -> list[Tensor]:
    """Return all tensors in ``value``, in order."""
    return [leaf for leaf in leaves(value) if isinstance(leaf, Tensor)]


def num_bytes(tensors: Iterable[Tensor]) -> int:
    """Return the bytes of tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
