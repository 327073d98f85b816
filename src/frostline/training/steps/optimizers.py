"""From hyperparameters to an optimizer: which class, and under which names its arguments are searched."""

from __future__ import annotations

import difflib
import inspect
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor  # there is no public name for it
from torch.optim import Optimizer

from frostline.errors import HyperparameterError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from frostline.records import Configuration, Value

# LBFGS evaluates the loss several times a step, SparseAdam takes only sparse gradients: neither fits a plain loop.
_NOT_OFFERED = frozenset({"Optimizer", "LBFGS", "SparseAdam"})

# Arguments that say how to compute, not what.
_NOT_HYPERPARAMETERS = frozenset({"params", "foreach", "fused", "maximize", "capturable", "differentiable"})

# Those with a fused implementation on the CPU: with threads that wait awake it is faster at every size (torch 2.13).
_FUSED = frozenset({torch.optim.Adam, torch.optim.AdamW, torch.optim.Adagrad, torch.optim.SGD})

# Fake ones stand for plain ones when a step is predicted, and must step as those do.
_PLAIN_TENSORS = (Tensor, nn.Parameter, FakeTensor)

_FULL_NAMES = {"lr": ("learning_rate",), "eps": ("epsilon",), "betas": ("beta1", "beta2")}


def import_optimizers() -> None:
    """Let torch import its compiler, as it does with a process's first optimizer (seconds, torch 2.13).

    Called before the clock of a training starts, it is no cost of that.
    """
    torch.optim.SGD([torch.zeros(1)])


def offered_optimizers() -> dict[str, type[Optimizer]]:
    """Return the classes of ``torch.optim`` that a hyperparameter "optimizer" may name."""
    attributes = {name: getattr(torch.optim, name) for name in dir(torch.optim) if name not in _NOT_OFFERED}
    return {
        name: kind for name, kind in attributes.items() if isinstance(kind, type) and issubclass(kind, Optimizer)
    }


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


def named_in_full(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of an optimizer under the names by which they are searched, without those that are not."""
    named: dict[str, Any] = {}
    for name, value in arguments.items():
        if name not in _NOT_HYPERPARAMETERS:
            full = _FULL_NAMES.get(name, (name,))
            named.update(zip(full, (value,) if len(full) == 1 else value, strict=True))
    return named


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

    Where torch has a fused implementation that is faster, it takes the steps: the numbers are the same to rounding.
    Raises: HyperparameterError if the optimizer refuses a value.
    """
    signature = inspect.signature(optimizer).parameters
    arguments = _arguments(signature, {name: value for name, value in configuration.items() if value is not None})
    try:
        return _built(optimizer, parameters, arguments)
    except (TypeError, ValueError) as error:
        given = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        reason = " ".join(str(error).split())
        raise HyperparameterError(
            f"{optimizer.__name__} cannot be built with {given}: {reason}; change the search space."
        ) from error


def _built(
    optimizer: type[Optimizer], parameters: Sequence[nn.Parameter], arguments: Mapping[str, Any]
) -> Optimizer:
    """Return the optimizer, with fused steps if it may and does not refuse."""
    built = None
    if _may_fuse(optimizer, parameters):
        with suppress(RuntimeError):
            built = optimizer(parameters, fused=True, **arguments)  # type: ignore[call-arg]
    if built is None:
        built = optimizer(parameters, **arguments)
    if optimizer in _FUSED:
        # Whether it is fused or not: a checkpoint from another device brings that device's choice with it.
        built.register_step_pre_hook(_stop_fusing)
    return built


def _may_fuse(optimizer: type[Optimizer], parameters: Sequence[nn.Parameter]) -> bool:
    """Return whether a fused step of ``optimizer`` would be exact for parameters like these.

    On the CPU it walks through memory without a look at strides, so that all must be contiguous, and in half
    precision SGD's is wrong (torch 2.13).
    """
    if optimizer not in _FUSED or not parameters:
        return False
    device = parameters[0].device
    exact = all(
        type(parameter) in _PLAIN_TENSORS
        and parameter.device == device
        and parameter.dtype in (torch.float32, torch.float64)
        and _is_contiguous(parameter)
        for parameter in parameters
    )
    # Adagrad's came to CUDA only after the oldest torch that we take.
    offers = device.type == "cpu" or (device.type == "cuda" and optimizer is not torch.optim.Adagrad)
    return exact and offers


def has_only_own_hooks(optimizer: Optimizer) -> bool:
    """Return whether nobody but ``build_optimizer`` had something called before or after the steps of ``optimizer``."""
    before, after = optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks
    return not after and all(hook is _stop_fusing for hook in before.values())


def _is_contiguous(tensor: Tensor) -> bool:
    return tensor.layout == torch.strided and tensor.is_contiguous()


def _stop_fusing(optimizer: Optimizer, _arguments: Any, _keywords: Any) -> None:
    """Before a step, go back for good to the default implementation if the fused one could not take this step.

    It takes every gradient for a contiguous one, refuses sparse ones, and in SGD a parameter that gets its first
    gradient later than others (torch 2.13).
    """
    for group in optimizer.param_groups:
        if not group.get("fused"):
            continue
        reached = [parameter for parameter in group["params"] if parameter.grad is not None]
        fits = all(_is_contiguous(each) and _is_contiguous(each.grad) for each in reached)
        if group.get("momentum"):
            fits = fits and len({"momentum_buffer" in optimizer.state.get(each, ()) for each in reached}) <= 1
        if not fits:
            group["fused"] = None


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
