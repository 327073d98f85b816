"""Several models with one frozen prefix: they hold the very same frozen parameters and buffers, each once in memory."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from frostline.layers.freezing.freezing import Freezing
from frostline.layers.weights.kept_parameter import KeptParameter


def copy_sharing_frozen(freezing: Freezing) -> nn.Module:
    """Return a copy of a frozen model, with a freezing of its own, that shares whatever is never trained.

    These are the parameters that require no gradient, and the buffers of the frozen layers.
    Raises: whatever ``copy.deepcopy`` of the model raises.
    """
    model = freezing.model
    shared: list[Tensor] = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    shared += [buffer for module in _frozen_modules(freezing).values() for buffer in module.buffers(recurse=False)]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in shared})


def share_frozen(freezing: Freezing, source: Freezing) -> None:
    """Let the frozen layers of one model hold the very parameters and buffers that they hold in another.

    ``source`` is of the same model, with at least as many layers frozen. What is trained in neither of them, as what lies
    beside adapters, is shared in trained layers too.
    """
    theirs = _frozen_modules(source)
    for name, module in _frozen_modules(freezing).items():
        module._parameters.update(theirs[name]._parameters)
        module._buffers.update(theirs[name]._buffers)
    names = {name for layer in freezing.frozen_layers for name in layer.parameters}
    # Under every name: a tied weight is held in several places.
    named = freezing.model.named_parameters(remove_duplicate=False)
    idle = {name for name, parameter in named if not parameter.requires_grad}
    names |= {name for name in idle if _is_whole(source.model.get_parameter(name))}
    for name in names:
        owner, _, own = name.rpartition(".")
        freezing.model.get_submodule(owner)._parameters[own] = source.model.get_parameter(name)


def _is_whole(parameter: nn.Parameter) -> bool:
    """Return whether a parameter is neither trained, nor kept in a way that only frozen layers can compute with."""
    return not parameter.requires_grad and not isinstance(parameter, KeptParameter)


def _frozen_modules(freezing: Freezing) -> dict[str, nn.Module]:
    """Return all modules in the frozen layers, by their names in the model."""
    modules = {}
    for layer in freezing.frozen_layers:
        for outermost in layer.modules:
            for name, module in freezing.model.get_submodule(outermost).named_modules():
                modules[f"{outermost}.{name}".rstrip(".")] = module
    return modules
