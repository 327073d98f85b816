"""What of a model its outputs rest on: a layer that runs and leads nowhere is never trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.autograd.function import BackwardCFunction

from frostline.layers.cutting.nesting import tensors


@contextmanager
def graph_alone(model: nn.Module) -> Iterator[None]:
    """Record what is computed from all parameters, those that are not trained included, and keep no value for it."""
    flags = [(each, each.requires_grad) for each in model.parameters() if each.is_floating_point()]
    try:
        for parameter, _ in flags:
            parameter.requires_grad_(True)
        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(_dropped, _dropped):
            yield
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


def parameters_behind(outputs: Any) -> frozenset[int] | None:
    """Return the identities of the parameters that ``outputs`` were computed from under ``graph_alone``.

    None if that cannot be known: no output has a graph, or a function of somebody's own is in it, which may hide parameters
    as torch's reentrant checkpoints do.
    """
    waiting: list[Any] = [tensor.grad_fn for tensor in tensors(outputs) if tensor.grad_fn is not None]
    seen, found = set(waiting), set[int]()
    while waiting:
        node = waiting.pop()
        if isinstance(node, BackwardCFunction):
            return None
        # Of a leaf, the node that adds up its gradient.
        variable = getattr(node, "variable", None)
        if variable is not None:
            found.add(id(variable))
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                waiting.append(following)
    return frozenset(found) or None


def _dropped(_: Any) -> Any:
    return None
