"""Tensors inside the tuples, lists, mappings and dataclasses that models hand around."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor


def map_tensors(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """Return ``value`` with every tensor in it replaced, in containers of the same kinds; the original stays as it was.

    Objects of other kinds pass as they are: a cache of keys and values must stay itself.
    """
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, tuple | list):
        parts = [map_tensors(function, each) for each in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if isinstance(value, Mapping):
        # A copy keeps the class, as of the outputs of transformers, whose items are attributes too.
        copied: Any = copy.copy(value)
        for key, each in value.items():
            copied[key] = map_tensors(function, each)
        return copied
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {
            field.name: map_tensors(function, getattr(value, field.name)) for field in dataclasses.fields(value)
        }
        return dataclasses.replace(value, **fields)
    return value


def leaves(value: Any) -> Iterator[Any]:
    """Yield what ``map_tensors`` does not look into: tensors and all that is no container, in order."""
    if isinstance(value, tuple | list):
        parts: Any = value
    elif isinstance(value, Mapping):
        parts = value.values()
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = [getattr(value, field.name) for field in dataclasses.fields(value)]
    else:
        yield value
        return
    for part in parts:
        yield from leaves(part)


def tensors(value: Any) -> list[Tensor]:
    """Return all tensors in ``value``, in order."""
    return [leaf for leaf in leaves(value) if isinstance(leaf, Tensor)]
