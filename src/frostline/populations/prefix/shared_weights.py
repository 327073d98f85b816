"""Several models with one frozen prefix: they hold the very same frozen parameters and buffers, each once in memory."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import suppress
from types import FunctionType
from typing import Any

from torch import Tensor, nn

from frostline.layers.freezing.freezing import Freezing
from frostline.layers.weights.idle_values import is_idle


def copy_sharing_frozen(freezing: Freezing) -> nn.Module:
    """Return a copy of a frozen model, with a freezing of its own, that shares whatever is never trained.

    These are the parameters that require no gradient, and the buffers of the frozen layers.
    Raises: whatever ``copy.deepcopy`` of the model raises.
    """
    model = freezing.model
    shared: list[Tensor] = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    shared += [buffer for module in freezing.frozen_modules.values() for buffer in module.buffers(recurse=False)]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in shared})


def what_is_not_copied(model: nn.Module) -> str | None:
    """Return what a copy of ``model`` would lack, or would still have of the original; None if there is nothing.

    Hooks of parameters are not copied; functions that refer to the model's own modules or tensors go on doing so.
    """
    for name, parameter in model.named_parameters():
        if parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None):
            return f"{name} has a hook of its own"
    parts = {id(part) for part in (*model.modules(), *model.parameters(), *model.buffers())}
    for name, module in model.named_modules():
        for function in _functions_of(module):
            if any(id(value) in parts for value in _held_by(function)):
                return f"{function.__qualname__} of {name or type(model).__name__} refers to a part of the model"
    return None


def _functions_of(module: nn.Module) -> Iterator[FunctionType]:
    """Return the functions among a module's attributes and hooks."""
    for value in vars(module).values():
        held: Any = value.values() if isinstance(value, dict) else (value,)
        yield from (each for each in held if isinstance(each, FunctionType))


def _held_by(function: FunctionType) -> Iterator[Any]:
    """Return what a function refers to in the code around it."""
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # nothing yet
            yield cell.cell_contents


def share_frozen(freezing: Freezing, source: Freezing) -> None:
    """Let the frozen layers of one model hold the very parameters and buffers that they hold in another.

    ``source`` is of the same model, with at least as many layers frozen. What is trained in neither of them, as what lies
    beside adapters, is shared in trained layers too.
    """
    theirs = source.frozen_modules
    for name, module in freezing.frozen_modules.items():
        module._parameters.update(theirs[name]._parameters)
        module._buffers.update(theirs[name]._buffers)
    names = {name for layer in freezing.frozen_layers for name in layer.parameters}
    # Under every name: a tied weight is held in several places.
    named = freezing.model.named_parameters(remove_duplicate=False)
    idle = {name for name, parameter in named if not parameter.requires_grad}
    names |= {name for name in idle if is_idle(source.model.get_parameter(name))}
    for name in names:
        owner, _, own = name.rpartition(".")
        freezing.model.get_submodule(owner)._parameters[own] = source.model.get_parameter(name)
