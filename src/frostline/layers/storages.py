"""The memory that tensors hold: views of one storage, and tied parameters, once."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def storage_bytes(tensors: Iterable[Tensor], *, ignored: Iterable[Tensor] = ()) -> int:
    """Return the bytes of the distinct storages of ``tensors``, real or fake or sparse, without those of ``ignored``."""
    left_out = {identity_of(tensor) for tensor in ignored}
    storages = {
        storage._cdata: storage
        for storage in (part.untyped_storage() for tensor in tensors for part in _dense(tensor))
    }
    return sum(storage.nbytes() for identity, storage in storages.items() if identity not in left_out)


def _dense(tensor: Tensor) -> tuple[Tensor, ...]:
    """Return what holds a tensor's numbers: of a sparse one, such as an embedding's gradient, places and values."""
    return (tensor._indices(), tensor._values()) if tensor.layout == torch.sparse_coo else (tensor,)


def model_bytes(model: nn.Module) -> int:
    """Return the bytes of a model's parameters and buffers."""
    return storage_bytes([*model.parameters(), *model.buffers()])


def places_of(tensors: Iterable[Tensor]) -> list[int]:
    """Return which of their distinct storages each of ``tensors`` has, numbered in the order in which they come."""
    numbers: dict[int, int] = {}
    return [numbers.setdefault(identity_of(tensor), len(numbers)) for tensor in tensors]


def identity_of(tensor: Tensor) -> int:
    """Return what tells a tensor's storage from all others that there are."""
    return int(tensor.untyped_storage()._cdata)
