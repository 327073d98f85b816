"""A checkpoint's tensors put into a model: found by the names that the model had before adapters were put in."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from frostline.errors import ModelError
from frostline.layers.adapters import names_before_adapters
from frostline.layers.weights.deferred import deferred_of, is_without_memory
from frostline.training.files.pretrained import PretrainedWeights

logger = logging.getLogger(__name__)


def start_from(model: nn.Module, pretrained: PretrainedWeights, *, new_modules: Sequence[str] = ()) -> None:
    """Fill ``model`` with the weights of ``pretrained``, but for the ``new_modules``, which keep their initial ones.

    Names are those that the model has without adapters, which are new too; a tied weight is found under any of its names,
    and transformers' with or without the name of the model's trunk. A model that was built deferred is filled when it is
    frozen; one that has no memory is only compared.
    Raises: ModelError if the checkpoint lacks a weight, has it in another shape, or is of a deeper model.
    """
    targets = _targets(model, pretrained, new_modules)
    _refuse_deeper(model, pretrained, targets)
    if is_without_memory():
        return
    deferred = deferred_of(model)
    present: dict[str, list[Tensor]] = {}
    for source, tensor in targets:
        if deferred is not None and isinstance(tensor, FakeTensor):
            deferred.give(tensor, _Source(pretrained, source, tensor.dtype))
        elif not tensor.is_meta:
            present.setdefault(source, []).append(tensor)
    with torch.no_grad():
        for source, value in pretrained.tensors(present):
            for tensor in present[source]:
                tensor.copy_(value)


@dataclass(frozen=True, slots=True)
class _Source:
    """Makes a weight of a model that was built deferred: reads it."""

    pretrained: PretrainedWeights
    name: str
    dtype: torch.dtype

    def __call__(self) -> Tensor:
        (value,) = (value.to(self.dtype, copy=True) for _, value in self.pretrained.tensors([self.name]))
        return value


def _targets(
    model: nn.Module, pretrained: PretrainedWeights, new_modules: Sequence[str]
) -> list[tuple[str, Tensor]]:
    """Return the model's tensors that are to be filled, each once, with the names that the checkpoint has for them."""
    before = names_before_adapters(model)
    aliases: dict[int, tuple[Tensor, list[str]]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if name in before and isinstance(tensor, Tensor):
            aliases.setdefault(id(tensor), (tensor, []))[1].append(before[name])
    _check_new(new_modules, [name for _, names in aliases.values() for name in names])
    trunk = getattr(model, "base_model_prefix", "")
    targets, missing = [], []
    for tensor, names in aliases.values():
        if any(_is_in(name, new_modules) for name in names):
            continue
        source = next(
            (each for name in names for each in _spellings(name, trunk) if each in pretrained.shapes), None
        )
        if source is None:
            missing.append(names[0])
        elif pretrained.shapes[source] != tuple(tensor.shape):
            raise ModelError(
                f"{pretrained.path} is of another model: {source} is {list(pretrained.shapes[source])} there, and "
                f"{list(tensor.shape)} in this {type(model).__name__}; name what shall be new in new_modules."
            )
        else:
            targets.append((source, tensor))
    if missing:
        raise ModelError(
            f"{pretrained.path} is of another model: it lacks {len(missing)} of {len(aliases)} weights of this "
            f"{type(model).__name__}, {missing[0]} first; name what shall be new in new_modules."
        )
    return targets


def _spellings(name: str, trunk: str) -> tuple[str, ...]:
    """Return what a checkpoint may call a weight: it may be of the trunk alone, or the model may."""
    # Of a model without one, transformers' or not, the prefix is an empty text or no text at all.
    if not isinstance(trunk, str) or not trunk:
        return (name,)
    return name, name.removeprefix(f"{trunk}."), f"{trunk}.{name}"


def _is_in(name: str, modules: Sequence[str]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def _check_new(new_modules: Sequence[str], names: Sequence[str]) -> None:
    for module in new_modules:
        if not any(_is_in(name, [module]) for name in names):
            parts = ", ".join(dict.fromkeys(name.partition(".")[0] for name in names))
            raise ModelError(
                f"new_modules names {module!r}, which this model does not have: it is made of {parts}."
            )


def _refuse_deeper(model: nn.Module, pretrained: PretrainedWeights, targets: Sequence[tuple[str, Tensor]]) -> None:
    """Raise ModelError if the checkpoint has more blocks than the model: what is left over of a list of modules."""
    used = {source for source, _ in targets}
    unused = [name for name in pretrained.shapes if name not in used]
    lists = {
        name: module for name, module in model.named_modules() if isinstance(module, nn.ModuleList | nn.Sequential)
    }
    endings = [name for name in lists if name]
    for name in unused:
        parts = name.split(".")
        for depth in range(1, len(parts)):
            holder, own = ".".join(parts[:depth]), parts[depth]
            if not own.isdigit():
                continue
            held = next((lists[each] for each in endings if f".{each}".endswith(f".{holder}")), None)
            if held is not None and int(own) >= len(held):
                raise ModelError(
                    f"{pretrained.path} is of a deeper model: it holds {name}, and {holder} has {len(held)} modules in this "
                    f"{type(model).__name__}. Build the model as it was trained."
                )
    if unused:
        logger.info("%s: %d tensors are not used, %s first", pretrained.path, len(unused), unused[0])
