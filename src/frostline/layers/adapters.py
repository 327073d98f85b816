"""Models with adapters as PEFT puts them in: beside weights that stay as they are, small ones that are trained.

Such a model is known by the names of its classes, so that nobody pays for a library that he does not use.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from frostline.layers.families import is_a
from frostline.layers.outline import child_name

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


def names_in_bases(model: nn.Module) -> set[str]:
    """Return the names of the parameters that stood in PEFT's models before adapters were put in; none without one."""
    prefixes = tuple(
        child_name(name, "") for name, each in model.named_modules() if is_a(each, "peft", "PeftModel")
    )
    return {name for name, _ in _names(model, "", "") if name.startswith(prefixes)}


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
