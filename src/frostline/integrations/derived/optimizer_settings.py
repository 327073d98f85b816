"""What an optimizer that a framework made is, in a task's words: class, hyperparameters, what it leaves undecayed."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import Optimizer

from frostline.errors import TaskError
from frostline.records import Value
from frostline.training.steps.optimizers import named_in_full, offered_optimizers

# A group's own, and what a schedule notes in it.
_OF_GROUPS = ("params", "lr", "weight_decay", "initial_lr")


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerSettings:
    """An optimizer of all of a model's parameters."""

    kind: type[Optimizer]
    hyperparameters: Mapping[str, Value]
    """All that a search may change, by their full names; the learning rate is the one before any schedule."""
    undecayed: tuple[str, ...]
    """The parameters in groups without weight decay, by name."""
    fused: bool | None
    """How it makes its steps: to rounding that is no matter."""

    def told(self, searched: Iterable[str]) -> dict[str, Value]:
        """Return the hyperparameters that a task must be told: those ``searched``, and what is not as the class has it."""
        usual = named_in_full(_defaults_of(self.kind))
        needed = {"learning_rate", *searched}
        return {
            name: value
            for name, value in self.hyperparameters.items()
            if name in needed or value != usual.get(name)
        }


def settings_of(optimizer: Optimizer, model: nn.Module) -> OptimizerSettings:
    """Return the settings of ``optimizer``.

    Raises: TaskError if it is none of ``torch.optim``, its groups differ in more than whether weights decay, a setting is no
        number, or it does not hold all parameters that require a gradient.
    """
    kind = type(optimizer)
    if kind not in offered_optimizers().values():
        raise _refusal(
            f"the optimizer is {kind.__module__}.{kind.__name__}, but a task takes those of torch.optim"
        )
    _check_parameters(optimizer, model)
    groups = optimizer.param_groups
    first = _shared(groups[0])
    for group in groups[1:]:
        differing = next((name for name, value in _shared(group).items() if first.get(name) != value), None)
        if differing is not None or _rate(group, optimizer) != _rate(groups[0], optimizer):
            raise _refusal(
                f"the optimizer's groups differ in {differing or 'lr'}, but a task's differ only in whether weights decay"
            )
    decays = sorted({group.get("weight_decay", 0.0) for group in groups})
    if len(decays) > 2 or (len(decays) == 2 and decays[0] != 0):
        raise _refusal(f"the optimizer's groups have weight decays of {decays}, but a task has one, or none")
    kept = [group for group in groups if len(decays) == 2 and group["weight_decay"] == 0]
    settings = {**first, "lr": _rate(groups[0], optimizer)}
    if "weight_decay" in groups[0]:
        settings["weight_decay"] = decays[-1]
    return OptimizerSettings(
        kind=kind,
        hyperparameters=_numbers(kind, settings),
        undecayed=names_of((each for group in kept for each in group["params"]), model),
        fused=groups[0].get("fused"),
    )


def names_of(parameters: Iterable[nn.Parameter], model: nn.Module) -> tuple[str, ...]:
    """Return the names of ``parameters`` in ``model``, in its order."""
    held = {id(parameter) for parameter in parameters}
    return tuple(name for name, parameter in model.named_parameters() if id(parameter) in held)


def _check_parameters(optimizer: Optimizer, model: nn.Module) -> None:
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if len(names_of(held, model)) != len(held) or {id(each) for each in held} != {id(each) for each in trained}:
        raise _refusal(
            f"the optimizer holds {len(held)} parameters, but {len(trained)} of {type(model).__name__} require a gradient, "
            f"and a task trains all of them"
        )


def _shared(group: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name not in _OF_GROUPS}


def _rate(group: Mapping[str, Any], optimizer: Optimizer) -> float:
    """Return a group's learning rate before any schedule: some begin with another one, and note that as the first."""
    return float(optimizer.defaults["lr"] if "initial_lr" in group else group["lr"])


def _numbers(kind: type[Optimizer], settings: Mapping[str, Any]) -> dict[str, Value]:
    usual = _defaults_of(kind)
    if settings.get("maximize"):
        raise _refusal("the optimizer maximizes, but a task's loss is to fall")
    values: dict[str, Value] = {}
    for name, value in named_in_full({name: settings[name] for name in settings if name in usual}).items():
        if isinstance(value, Value):
            values[name] = value
        elif usual.get(name) != value:
            raise _refusal(f"{name} of the optimizer is a {type(value).__name__}, but must be a number")
    return values


def _defaults_of(kind: type[Optimizer]) -> dict[str, Any]:
    return {
        name: parameter.default
        for name, parameter in inspect.signature(kind).parameters.items()
        if name != "params"
    }


def _refusal(reason: str) -> TaskError:
    return TaskError(f"{reason}: change the optimizer, or tune it as trials.")


def only_one(optimizers: Sequence[Optimizer]) -> Optimizer:
    """Return the optimizer, if there is one. Raises: TaskError otherwise."""
    if len(optimizers) != 1:
        raise _refusal(f"there are {len(optimizers)} optimizers, but a task has one")
    return optimizers[0]
