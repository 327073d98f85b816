"""What of several sessions' models is stacked: their trained parameters and buffers, which have to be alike."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from frostline.errors import ModelError
from frostline.layers import Layer, freezing_of

if TYPE_CHECKING:
    from frostline.training.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """The trained parameters and all buffers of a model, each under one name; ``names`` leads there from all others."""

    parameters: dict[str, nn.Parameter]
    buffers: dict[str, Tensor]
    names: dict[str, str]
    persistent: frozenset[str]

    def __getitem__(self, name: str) -> Tensor:
        return self.parameters[name] if name in self.parameters else self.buffers[name]

    def may_change(self, name: str) -> bool:
        """Whether training may make a buffer another for every session.

        Statistics are no whole numbers, and kept in checkpoints. A table, a mask, a counter of batches is not both; were
        one changed by what differs between sessions after all, vmap would raise.
        """
        return name in self.persistent and self.buffers[name].is_floating_point()

    def structure(self) -> list[tuple[Any, ...]]:
        """Return what two models that are stacked must agree in."""
        return [
            (name, canonical, canonical in self.parameters, tensor.shape, tensor.dtype, tensor.device)
            for name, canonical in self.names.items()
            for tensor in (self[canonical],)
        ]


def contents_of(model: nn.Module) -> Contents:
    """Return the contents of ``model``: a module that has several names counts once."""
    parameters: dict[str, nn.Parameter] = {}
    buffers: dict[str, Tensor] = {}
    names: dict[str, str] = {}
    persistent: set[str] = set()
    canonical: dict[int, str] = {}
    for owner, module in model.named_modules():
        prefix = f"{owner}." if owner else ""
        for own, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            if parameter.requires_grad:
                name = names[prefix + own] = canonical.setdefault(id(parameter), prefix + own)
                parameters[name] = parameter
        for own, buffer in module.named_buffers(recurse=False, remove_duplicate=False):
            name = names[prefix + own] = canonical.setdefault(id(buffer), prefix + own)
            buffers[name] = buffer
            if own not in module._non_persistent_buffers_set:
                persistent.add(name)
    return Contents(parameters=parameters, buffers=buffers, names=names, persistent=frozenset(persistent))


def names_by_layer(model: nn.Module) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names of the parameters and buffers in modules of frozen layers alone, and of trained layers."""
    freezing = freezing_of(model)
    whole = {id(module) for module in model.modules()}
    trained = whole if freezing is None else _modules_of(model, freezing.trained_layers)
    frozen = set() if freezing is None else _modules_of(model, freezing.frozen_layers) - trained
    return _names_in(model, frozen), _names_in(model, trained)


def _modules_of(model: nn.Module, layers: Iterable[Layer]) -> set[int]:
    names = [name for layer in layers for name in layer.modules]
    return {id(module) for name in names for module in model.get_submodule(name).modules()}


def _names_in(model: nn.Module, modules: Container[int]) -> frozenset[str]:
    return frozenset(
        f"{name}.{own}".lstrip(".")
        for name, module in model.named_modules()
        if id(module) in modules
        for own in (*module._parameters, *module._buffers)
    )


def check_alike(sessions: Sequence[Session], members: Sequence[Contents]) -> None:
    """Raise ModelError if sessions' models, of these contents, cannot be stacked."""
    first, expected = sessions[0], members[0].structure()
    for session, member in zip(sessions, members, strict=True):
        structure = member.structure()
        if structure != expected:
            differing = [row[0] for row in set(structure) ^ set(expected)]
            raise ModelError(
                f"configurations {first.configuration.number} and {session.configuration.number} cannot be stacked: "
                f"their models differ in {min(differing, default='the order of their weights')}; train them apart."
            )
        if session.samples_seen != first.samples_seen:
            raise ModelError(
                f"configurations {first.configuration.number} and {session.configuration.number} cannot be stacked: "
                f"they have seen {first.samples_seen} and {session.samples_seen} samples; train them apart."
            )
    overlapping = _sharing_memory(first.model)
    if overlapping is not None:
        raise ModelError(
            f"configuration {first.configuration.number} cannot be stacked: {' and '.join(overlapping)} of its model share "
            f"memory without being one parameter; tie them by assigning the parameter itself, or train one by one."
        )


def _sharing_memory(model: nn.Module) -> tuple[str, str] | None:
    """Return a trained parameter and another tensor of ``model`` that reach into the same memory, or None."""
    seen: dict[int, tuple[str, Tensor]] = {}
    tensors = sorted((*model.named_parameters(), *model.named_buffers()), key=lambda pair: pair[1].data_ptr())
    for name, tensor in tensors:
        other, before = seen.get(tensor.untyped_storage()._cdata, (name, tensor))
        # Side by side is where an earlier stack has put them.
        overlaps = tensor.data_ptr() < _end_of(before)
        if other != name and tensor.numel() and overlaps and (before.requires_grad or tensor.requires_grad):
            return other, name
        if other == name or _end_of(tensor) > _end_of(before):
            seen[tensor.untyped_storage()._cdata] = name, tensor
    return None


def _end_of(tensor: Tensor) -> int:
    """Return the address behind the last element."""
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.data_ptr() + (last + 1) * tensor.element_size()
