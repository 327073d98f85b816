"""The memory that a forward pass keeps for its backward pass."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable

import torch
from torch import Tensor


class SavedTensors:
    """Counts what autograd saves while this context lasts: bytes of distinct storages.

    A storage counts once and whole, however many views of it are saved; ``ignored`` tensors (parameters, buffers, the
    batch) do not count, because they stay in memory anyway. What a graph that was dropped on the way had saved does not
    count either. ``group`` names the group that a tensor saved now belongs to.
    """

    def __init__(self, *, ignored: Iterable[Tensor], group: Callable[[], str] = lambda: "") -> None:
        # The tensors are held, so that no storage of another tensor can get the identity of one of these.
        self._ignored = {tensor.untyped_storage()._cdata: tensor for tensor in ignored}
        self._group = group
        self._saved: weakref.WeakSet[_Saved] = weakref.WeakSet()
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, _unpack)

    def __enter__(self) -> SavedTensors:
        self._hooks.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._hooks.__exit__(*error)

    def num_bytes(self, group: str | None = None) -> int:
        """The bytes that living graphs keep, of one group or of all. Ask before the backward pass, which frees them."""
        storages = {}
        for saved in self._saved:
            if group is None or saved.group == group:
                storage = saved.tensor.untyped_storage()
                storages[storage._cdata] = storage.nbytes()
        return sum(size for identity, size in storages.items() if identity not in self._ignored)

    def _pack(self, tensor: Tensor) -> _Saved:
        # Detached: an operation that saves its own output would hold itself alive through it.
        saved = _Saved(tensor.detach(), self._group())
        self._saved.add(saved)
        return saved


class _Saved:
    """What the graph holds in the tensor's stead: it lives exactly as long as the graph."""

    def __init__(self, tensor: Tensor, group: str) -> None:
        self.tensor = tensor
        self.group = group


def _unpack(saved: _Saved) -> Tensor:
    return saved.tensor
