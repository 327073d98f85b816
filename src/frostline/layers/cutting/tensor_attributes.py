"""Tensors that a model keeps beside its parameters and buffers, such as an activation, without the graph behind them.

A tensor with a graph cannot be copied (``copy.deepcopy``), and with it no model that keeps one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


@contextmanager
def graphs_dropped(model: nn.Module) -> Iterator[None]:
    """At the end take the graphs from those tensors among the modules' attributes that were not there before.

    One that stays was made with the model, and may be what its parameters are trained through.
    """
    before = [leaf for module in model.modules() for leaf in _with_graph(vars(module))]
    try:
        yield
    finally:
        kept = {id(tensor) for tensor in before}
        for module in model.modules():
            if any(id(tensor) not in kept for tensor in _with_graph(vars(module))):
                _drop(vars(module), kept)


def _with_graph(value: Any) -> Iterator[Tensor]:
    """Yield the tensors with a graph in attributes, and in the lists, tuples and dictionaries among them."""
    if isinstance(value, Tensor):
        if value.grad_fn is not None:
            yield value
    elif isinstance(value, list | tuple | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _with_graph(part)


def _drop(value: Any, kept: set[int]) -> Any:
    """Return ``value`` with its graphs dropped, but for those of ``kept`` tensors; lists and mappings stay themselves."""
    if isinstance(value, Tensor):
        return value if value.grad_fn is None or id(value) in kept else value.detach()
    if isinstance(value, tuple):
        parts = [_drop(part, kept) for part in value]
        if all(one is other for one, other in zip(parts, value, strict=True)):
            return value
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if isinstance(value, list | dict):
        for place, part in [*(value.items() if isinstance(value, dict) else enumerate(value))]:
            if (dropped := _drop(part, kept)) is not part:
                value[place] = dropped
    return value
