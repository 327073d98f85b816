"""From hyperparameters to an optimizer: which class, and under which names its arguments are searched."""

from __future__ import annotations

import difflib
import inspect
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim import Optimizer

from frostline.errors import HyperparameterError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from frostline.records import Configuration, Value

# LBFGS evaluates the loss several times a step, SparseAdam takes only sparse gradients: neither fits a plain loop.
_NOT_OFFERED = frozenset({"Optimizer", "LBFGS", "SparseAdam"})

# Arguments that say how to compute, not what.
_NOT_HYPERPARAMETERS = frozenset({"params", "foreach", "fused", "maximize", "capturable", "differentiable"})

_FULL_NAMES = {"lr": ("learning_rate",), "eps": ("epsilon",), "betas": ("beta1", "beta2")}


def offered_optimizers() -> dict[str, type[Optimizer]]:
    """Return the classes of ``torch.optim`` that a hyperparameter "optimizer" may name."""
    found = {name: getattr(torch.optim, name) for name in dir(torch.optim) if name not in _NOT_OFFERED}
    return {name: kind for name, kind in found.items() if isinstance(kind, type) and issubclass(kind, Optimizer)}


def optimizer_class(name: Value) -> type[Optimizer]:
    """Return the class of ``torch.optim`` called ``name``.

    Raises: HyperparameterError if there is none, with the closest names.
    """
    offered = offered_optimizers()
    if isinstance(name, str) and name in offered:
        return offered[name]
    lowered = {known.lower(): known for known in offered}
    close = [lowered[match] for match in difflib.get_close_matches(str(name).lower(), lowered, n=3)]
    allowed = f"did you mean {' or '.join(close)}?" if close else f"use one of {', '.join(offered)}."
    raise HyperparameterError(
        f"optimizer is {name!r}, which is no optimizer of torch.optim that can be used: {allowed}"
    )


def hyperparameters_of(optimizer: type[Optimizer]) -> frozenset[str]:
    """Return the names under which the arguments of ``optimizer`` are searched.

    They are the arguments' own names, in full words: ``learning_rate`` for lr, ``epsilon`` for eps, ``beta1`` and
    ``beta2`` for betas. Where there is a momentum but no betas (SGD), ``beta1`` stands for the momentum.
    """
    arguments = inspect.signature(optimizer).parameters.keys() - _NOT_HYPERPARAMETERS
    names = {name for argument in arguments for name in _FULL_NAMES.get(argument, (argument,))}
    return frozenset(names | {"beta1"} if "momentum" in names else names)


def suggested_name(name: str) -> str | None:
    """Return the full name, if ``name`` is torch's short one."""
    return " and ".join(_FULL_NAMES[name]) if name in _FULL_NAMES else None


def build_optimizer(
    optimizer: type[Optimizer], parameters: Sequence[nn.Parameter], configuration: Configuration
) -> Optimizer:
    """Return an ``optimizer`` of ``parameters`` with those hyperparameters of ``configuration`` that it has.

    What is missing or None keeps the optimizer's default. Weight decay acts on all parameters alike, norms and
    biases too. ``beta1`` is the momentum of an optimizer without betas, unless there is a ``momentum`` as well: so
    does the method's own experiment search {Adam, SGD} with one beta1.
    Raises: HyperparameterError if the optimizer refuses a value.
    """
    signature = inspect.signature(optimizer).parameters
    arguments = _arguments(signature, {name: value for name, value in configuration.items() if value is not None})
    try:
        return optimizer(parameters, **arguments)
    except (TypeError, ValueError) as error:
        given = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        reason = " ".join(str(error).split())
        raise HyperparameterError(
            f"{optimizer.__name__} cannot be built with {given}: {reason}; change the search space."
        ) from error


def _arguments(signature: Mapping[str, inspect.Parameter], given: Mapping[str, Value]) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        name: given[name]
        for name in signature
        if name in given and name not in _NOT_HYPERPARAMETERS and name not in _FULL_NAMES
    }
    for short, full in (("lr", "learning_rate"), ("eps", "epsilon")):
        if short in signature and full in given:
            arguments[short] = given[full]
    if "betas" in signature:
        default = signature["betas"].default
        if "beta1" in given or "beta2" in given:
            arguments["betas"] = (given.get("beta1", default[0]), given.get("beta2", default[1]))
    elif "momentum" in signature and "beta1" in given:
        arguments.setdefault("momentum", given["beta1"])
    return arguments
