"""One optimizer whose hyperparameters differ between the head, a model's last layer, and the layers before it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from frostline.errors import HyperparameterError
from frostline.layers.freezing.freezing import freezing_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn
    from torch.optim import Optimizer

    from frostline.protocols import Task
    from frostline.records import Configuration


def build_group_optimizer(
    task: Task, model: nn.Module, parameters: Sequence[nn.Parameter], configuration: Configuration
) -> Optimizer:
    """Return the task's optimizer of the trained ``parameters``; those of the head get ``configuration.head``.

    The task builds an optimizer for each of the two groups, and one takes the other's parameters over: whatever the task
    reads for an optimizer can differ.
    Raises: HyperparameterError if the head has hyperparameters of its own and frostline did not freeze the model, so that
        nothing says which layer is the last, or if the optimizer reads none of them; and as the task's ``build_optimizer``.
    """
    if not configuration.head:
        return task.build_optimizer(parameters, configuration)
    freezing = freezing_of(model)
    if freezing is None:
        raise HyperparameterError(
            f"{', '.join(configuration.head)} of the head cannot be set, because {type(model).__name__} was not frozen by "
            f"frostline.freeze: freeze it so in the task's freeze, or align without head."
        )
    owned = {id(model.get_parameter(name)) for name in freezing.stack.layers[-1].parameters}
    head = [parameter for parameter in parameters if id(parameter) in owned]
    others = [parameter for parameter in parameters if id(parameter) not in owned]
    plain = replace(configuration, head={})
    of_head = replace(plain, hyperparameters={**plain.hyperparameters, **configuration.head})
    groups = [(members, one) for members, one in ((others, plain), (head, of_head)) if members]
    optimizer, *more = [task.build_optimizer(members, one) for members, one in groups]
    for other in more:
        if _settings(other) == _settings(optimizer):
            raise HyperparameterError(
                f"{', '.join(configuration.head)} of the head changes nothing, because {type(optimizer).__name__} does not "
                f"read it: align a hyperparameter of the optimizer."
            )
        for group in other.param_groups:
            optimizer.add_param_group(group)
    return optimizer


def _settings(optimizer: Optimizer) -> list[dict[str, Any]]:
    return [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
