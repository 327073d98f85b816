"""One optimizer whose hyperparameters differ between layers: the head may have its own, rates may fall towards the input."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from frostline.errors import HyperparameterError
from frostline.layers.freezing.freezing import Freezing, freezing_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn
    from torch.optim import Optimizer

    from frostline.protocols import Task
    from frostline.records import Configuration


def build_group_optimizer(
    task: Task, model: nn.Module, parameters: Sequence[nn.Parameter], configuration: Configuration
) -> Optimizer:
    """Return the task's optimizer of the trained ``parameters``; those of the head get ``configuration.head``.

    With a ``layer_decay`` below 1 each layer's learning rate is that of the layer behind it times this: layers are groups.
    A task's ``undecayed`` parameters are groups without weight decay.
    The task builds an optimizer for each group, and one takes the others' parameters over: whatever the task reads for an
    optimizer can differ.
    Raises: HyperparameterError if groups differ and frostline did not freeze the model, so that nothing says which layer is
        the last, or if the optimizer reads none of the head's own; and as the task's ``build_optimizer``.
    """
    # Only some tasks have such things: they are no part of what a task must be.
    decay_of: Callable[[Configuration], float] | None = getattr(task, "layer_decay", None)
    decay = 1.0 if decay_of is None else decay_of(configuration)
    undecayed = _undecayed(task, model)
    if not configuration.head and decay == 1 and not undecayed:
        return task.build_optimizer(parameters, configuration)
    plain = replace(configuration, head={})
    of_head = replace(plain, hyperparameters={**plain.hyperparameters, **configuration.head})
    layers = [(list(parameters), plain)]
    if configuration.head or decay != 1:
        *others, head = _by_layer(_freezing_of(model, configuration), parameters)
        if decay == 1:
            owned = {id(parameter) for parameter in head}
            others = [[parameter for parameter in parameters if id(parameter) not in owned]]
        layers = [(members, of_head if members is head else plain) for members in (*others, head)]
    optimizers: list[Optimizer] = []
    without_decay: list[Optimizer] = []
    for distance, (members, configured) in reversed([*enumerate(reversed(layers))]):
        kept = [parameter for parameter in members if id(parameter) in undecayed]
        decayed = [parameter for parameter in members if id(parameter) not in undecayed]
        for part, built in ((decayed, optimizers), (kept, without_decay)):
            if part:
                built.append(task.build_optimizer(part, configured))
                for group in built[-1].param_groups:
                    group["lr"] = group["lr"] * decay**distance
    for group in (group for optimizer in without_decay for group in optimizer.param_groups):
        if "weight_decay" in group:  # not every optimizer decays
            group["weight_decay"] = 0.0
    if any(id(parameter) not in undecayed for parameter in layers[-1][0]):
        _refuse_head_in_vain(configuration, optimizers)
    optimizer, *more = optimizers + without_decay
    for group in (group for other in more for group in other.param_groups):
        optimizer.add_param_group(group)
    return optimizer


def _undecayed(task: Task, model: nn.Module) -> frozenset[int]:
    """Return the identities of the parameters that weight decay leaves alone.

    Raises: HyperparameterError if the model has no parameter of such a name.
    """
    names: tuple[str, ...] = getattr(task, "undecayed", ())
    named = dict(model.named_parameters(remove_duplicate=False)) if names else {}
    unknown = next((name for name in names if name not in named), None)
    if unknown is not None:
        raise HyperparameterError(
            f"undecayed names {unknown}, which {type(model).__name__} does not have: it has {', '.join(list(named)[:8])}, "
            f"..."
        )
    return frozenset(id(named[name]) for name in names)


def _freezing_of(model: nn.Module, configuration: Configuration) -> Freezing:
    freezing = freezing_of(model)
    if freezing is None:
        names = ", ".join(configuration.head) + " of the head" if configuration.head else "layer_decay"
        raise HyperparameterError(
            f"{names} cannot be set, because {type(model).__name__} was not frozen by frostline.freeze: freeze it so in the "
            f"task's freeze, or align without head."
        )
    return freezing


def _by_layer(freezing: Freezing, parameters: Sequence[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Return the parameters that each of the model's layers owns, input first; most of the first layers own none."""
    layer_of = {
        id(freezing.model.get_parameter(name)): index
        for index, layer in enumerate(freezing.stack.layers)
        for name in layer.parameters
    }
    layers: list[list[nn.Parameter]] = [[] for _ in freezing.stack.layers]
    for parameter in parameters:
        layers[layer_of[id(parameter)]].append(parameter)
    return layers


def _refuse_head_in_vain(configuration: Configuration, optimizers: Sequence[Optimizer]) -> None:
    if not configuration.head or len(optimizers) < 2:
        return
    *_, other, head = map(_settings, optimizers)
    if head == other:
        raise HyperparameterError(
            f"{', '.join(configuration.head)} of the head changes nothing, because {type(optimizers[0]).__name__} does not "
            f"read it: align a hyperparameter of the optimizer."
        )


def _settings(optimizer: Optimizer) -> list[dict[str, Any]]:
    return [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
