"""What modules keep in Python beside parameters and buffers, which running a model may change.

Counters, factors and switches; tensors that are no buffers; and lists, dictionaries and queues of these. Small ones alone: a
large one is a table, or an output that somebody remembers.
"""

from __future__ import annotations

import operator
from collections import deque
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from frostline.layers.cutting.nesting import map_tensors, tensors

_PLAIN = (bool, int, float, str, type(None))
_ROWS = (list, tuple, deque)

# In entries of a container, with those of the containers in it, and in bytes of a tensor.
_MOST_ENTRIES = 4096
_LARGEST_BYTES = 64 * 1024

# What torch keeps there itself, the mode among it.
_TORCHS_OWN = frozenset(vars(nn.Module()))

_NOTHING = object()

PlainAttributes = Mapping[str, Mapping[str, Any]]
"""Copies, by the names of modules, then of attributes; queues as lists."""


def plain_attributes(model: nn.Module) -> PlainAttributes:
    """Return the attributes of all modules that are small plain values, as copies that nobody else changes."""
    found: dict[str, dict[str, Any]] = {}
    for name, module in model.named_modules():
        for own, value in vars(module).items():
            if own not in _TORCHS_OWN and (copied := _copied(value)) is not _NOTHING:
                found.setdefault(name, {})[own] = copied
    return found


def changed_attributes(before: PlainAttributes, now: PlainAttributes) -> PlainAttributes:
    """Return those of ``now`` that are not there ``before``, or are others."""
    changed = {
        name: {
            own: value
            for own, value in attributes.items()
            if not are_equal(before.get(name, {}).get(own, _NOTHING), value)
        }
        for name, attributes in now.items()
    }
    return {name: attributes for name, attributes in changed.items() if attributes}


def put_back(model: nn.Module, attributes: PlainAttributes) -> None:
    """Give modules these attributes; those that they are not told of stay as they are. Raises: KeyError without a module.

    One that is as told stays the object that it is, and so does a list, dictionary or queue: others may hold it too. Tensors
    come to where those lie that they replace, or else the model.
    """
    modules = dict(model.named_modules())
    place = next((parameter.device for parameter in model.parameters()), None)
    for name, values in attributes.items():
        held = modules[name].__dict__
        for own, told in values.items():
            present = held.get(own, _NOTHING)
            if present is told:
                continue  # nearly all, and what follows takes ten times as long
            value = _moved(told, next((tensor.device for tensor in tensors(present)), place))
            if are_equal(_copied(present), value):
                continue
            if isinstance(present, list | deque) and isinstance(value, list):
                present.clear()
                present.extend(_copied(value))
            elif isinstance(present, dict) and isinstance(value, dict):
                present.clear()
                present.update(_copied(value))
            else:
                held[own] = _copied(value)


def _moved(value: Any, device: torch.device | None) -> Any:
    return value if device is None else map_tensors(lambda tensor: tensor.to(device), value)


def are_equal(one: Any, other: Any) -> bool:
    """Return whether two plain values are of one type and content; what is no number is equal to itself."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        same_kind = (one.shape, one.dtype, one.device) == (other.shape, other.dtype, other.device)
        return same_kind and torch.equal(one, other)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(are_equal, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(map(are_equal, one.values(), other.values()))
    return one is other or one == other or (one != one and other != other)


def _copied(value: Any) -> Any:
    """Return a copy of a small plain value, or that it is none."""
    if type(value) in _PLAIN:
        return value
    if type(value) is Tensor:
        if torch._C._functorch.is_functorch_wrapped_tensor(value):
            return _NOTHING  # it is no value once vmap has ended
        is_small = value.layout == torch.strided and value.nbytes <= _LARGEST_BYTES
        return value.detach().clone() if is_small else _NOTHING
    if type(value) in _ROWS and len(value) <= _MOST_ENTRIES:
        parts = [_copied(part) for part in value]
        if any(part is _NOTHING for part in parts):
            return _NOTHING
        if not isinstance(value, tuple):
            return parts
        # Of what nobody can change no copy is needed.
        return value if all(map(operator.is_, parts, value)) else tuple(parts)
    if type(value) is dict and len(value) <= _MOST_ENTRIES and all(type(key) in _PLAIN for key in value):
        parts = [_copied(part) for part in value.values()]
        return _NOTHING if any(part is _NOTHING for part in parts) else dict(zip(value, parts, strict=True))
    return _NOTHING
