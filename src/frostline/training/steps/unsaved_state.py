"""What training changes of a model beside what is trained: plain attributes, buffers that are not persistent, teachers.

A model that anneals by a counter of its own, keeps a mean in a buffer that is not saved, or averages its weights in
parameters that require no gradient would go on from a checkpoint as another model than it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from frostline.layers.cutting.plain_attributes import changed_attributes, plain_attributes, put_back
from frostline.layers.weights.idle_values import IdleValues

if TYPE_CHECKING:
    from torch import Tensor, nn

# Larger ones are tables as a rule, masks or positions, of which a copy of each would be too much: it is asked whether they
# were written to.
_LARGEST_BYTES = 64 * 1024


class UnsavedState:
    """What a model has beside its state dict at the beginning of its training, and what has become of it since."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._attributes = plain_attributes(model)
        self._idle = IdleValues(model)
        self._buffers: dict[str, Tensor] = {}
        self._tables: dict[str, tuple[Tensor, int]] = {}
        for name, buffer in _unsaved_buffers(model).items():
            if buffer.nbytes <= _LARGEST_BYTES:
                self._buffers[name] = buffer.detach().clone()
            else:
                self._tables[name] = buffer, buffer._version

    def changed_parameters(self) -> set[str]:
        """Return the names of parameters that require no gradient, and were changed all the same."""
        return set(self._idle.changed())

    def changed_attributes(self) -> dict[str, Any]:
        """Return the plain attributes that have changed, by the names of modules and their own."""
        attributes = changed_attributes(self._attributes, plain_attributes(self._model))
        return {name: dict(own) for name, own in attributes.items()}

    def changed(self) -> dict[str, Any]:
        """Return what has changed, as tensors and plain values; nothing for most models."""
        buffers = {
            name: buffer.detach().clone()
            for name, buffer in _unsaved_buffers(self._model).items()
            if not self._is_as_it_was(name, buffer)
        }
        parts = {"attributes": self.changed_attributes(), "buffers": buffers}
        return {name: part for name, part in parts.items() if part}

    def _is_as_it_was(self, name: str, buffer: Tensor) -> bool:
        if name in self._tables:
            before, version = self._tables[name]
            return buffer is before and buffer._version == version
        return name in self._buffers and torch.equal(buffer, self._buffers[name])

    def restore(self, changed: Mapping[str, Any]) -> None:
        """Make of the model, at its beginning, what ``changed`` tells. Raises: KeyError if it is of another model."""
        put_back(self._model, changed.get("attributes", {}))
        buffers = dict(self._model.named_buffers())
        for name, value in changed.get("buffers", {}).items():
            buffers[name].copy_(value)


def _unsaved_buffers(model: nn.Module) -> dict[str, Tensor]:
    """Return the buffers that are in no state dict."""
    return {
        f"{name}.{own}".lstrip("."): buffer
        for name, module in model.named_modules()
        for own, buffer in module.named_buffers(recurse=False)
        if own in module._non_persistent_buffers_set
    }
