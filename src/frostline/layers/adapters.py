"""Models with adapters as PEFT puts them in: beside weights that stay as they are, small ones that are trained.

Such a model is known by the names of its classes, so that nobody pays for a library that he does not use.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from frostline.layers.families import is_a
from frostline.layers.freezing.freezing import freezing_of, gradient_flags
from frostline.layers.merging import joined_stack
from frostline.layers.outline import child_name
from frostline.layers.stack import LayerStack

# A wrapper of PEFT, and the child that is the module as it was.
_WRAPPED = {"PeftModel": "base_model", "BaseTuner": "model", "BaseTunerLayer": "base_layer"}


def has_adapters(model: nn.Module) -> bool:
    """Return whether PEFT has put adapters into ``model``."""
    return any(is_a(module, "peft", "BaseTunerLayer") for module in model.modules())


def names_before_adapters(model: nn.Module) -> dict[str, str]:
    """Return what each parameter and buffer was called before adapters were put in, by its present name.

    An adapter's own have no such name. The copy that PEFT trains of a module named in ``modules_to_save`` has the
    module's. In a model without adapters every name stays.
    """
    return dict(_names(model, "", ""))


def _names(module: nn.Module, name: str, before: str) -> Iterator[tuple[str, str]]:
    wrapped = next((own for kind, own in _WRAPPED.items() if is_a(module, "peft", kind)), None)
    if wrapped is not None:
        yield from _names(module.get_submodule(wrapped), child_name(name, wrapped), before)
    elif is_a(module, "peft", "ModulesToSaveWrapper"):
        for own, child in module.named_children():
            copies = child.named_children() if own == "modules_to_save" else [("", child)]
            for adapter, copied in copies:
                yield from _names(copied, f"{name}.{own}.{adapter}".rstrip("."), before)
    else:
        for own in (*module._parameters, *module._buffers):
            yield child_name(name, own), child_name(before, own)
        for own, child in module.named_children():
            yield from _names(child, child_name(name, own), child_name(before, own))


def join_without_adapters(stack: LayerStack, model: nn.Module) -> LayerStack:
    """Return the stack of a model with adapters in which something is trained in every layer.

    A layer that has no adapter is no step of fidelity: it joins the one before it, and the first ones the one behind them.
    Of another model, or one in which nothing is trained at all, the stack is returned as it is.
    """
    if not has_adapters(model):
        return stack
    freezing = freezing_of(model)
    flags = gradient_flags(model) if freezing is None else freezing.requires_gradient
    groups: list[list[int]] = [[]]
    is_trained = False
    for index, layer in enumerate(stack.layers):
        has_own = any(flags[name] for name in layer.parameters)
        if has_own and is_trained:
            groups.append([])
        groups[-1].append(index)
        is_trained = is_trained or has_own
    return joined_stack(stack, groups) if is_trained else stack
