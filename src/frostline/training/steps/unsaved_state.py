"""What training changes of a model beside its state dict: plain attributes, and small buffers that are not persistent.

A model that anneals by a counter of its own, or keeps a mean in a buffer that is not saved, would go on from a checkpoint as
another model than it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from frostline.layers.cutting.plain_attributes import changed_attributes, plain_attributes, put_back

if TYPE_CHECKING:
    from torch import Tensor, nn

# Larger ones are tables: masks, positions. They are not looked at, which would take a copy of each.
_LARGEST_BYTES = 64 * 1024


class UnsavedState:
    """What a model has beside its state dict at the beginning of its training, and what has become of it since."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._attributes = plain_attributes(model)
        self._buffers = {name: buffer.detach().clone() for name, buffer in _small_buffers(model).items()}

    def changed(self) -> dict[str, Any]:
        """Return what has changed, as tensors and plain values; nothing for most models."""
        now = _small_buffers(self._model)
        buffers = {
            name: buffer.detach().clone()
            for name, buffer in now.items()
            if name not in self._buffers or not torch.equal(buffer, self._buffers[name])
        }
        attributes = changed_attributes(self._attributes, plain_attributes(self._model))
        parts = {"attributes": {name: dict(own) for name, own in attributes.items()}, "buffers": buffers}
        return {name: part for name, part in parts.items() if part}

    def restore(self, changed: Mapping[str, Any]) -> None:
        """Make of the model, at its beginning, what ``changed`` tells. Raises: KeyError if it is of another model."""
        put_back(self._model, changed.get("attributes", {}))
        buffers = dict(self._model.named_buffers())
        for name, value in changed.get("buffers", {}).items():
            buffers[name].copy_(value)


def _small_buffers(model: nn.Module) -> dict[str, Tensor]:
    """Return the buffers that are in no state dict, and no tables."""
    return {
        f"{name}.{own}".lstrip("."): buffer
        for name, module in model.named_modules()
        for own, buffer in module.named_buffers(recurse=False)
        if own in module._non_persistent_buffers_set and buffer.nbytes <= _LARGEST_BYTES
    }
