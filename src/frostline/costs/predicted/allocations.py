"""The bytes of tensors that are alive, as operations make them and references let them go."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from frostline.costs.predicted.caching_allocator import CachingAllocator
from frostline.costs.predicted.cuda_rules import bytes_inside_on_cuda
from frostline.costs.predicted.kernel_memory import bytes_inside, with_workspace
from frostline.layers.cutting import nesting
from frostline.layers.storages import identity_of

if TYPE_CHECKING:
    from collections.abc import Iterable


class LiveBytes(TorchDispatchMode):
    """Counts the living storages that operations make while this context lasts; real and fake tensors count the same.

    A storage counts once and whole, however many views of it there are, until nothing refers to it. Storages that were
    there before do not count unless they are watched; ``ignored`` tensors never count.

    ``peak`` is taken after every operation, with what it was given, what it made, and what it held inside itself as far
    as ``kernel_memory`` knows. ``ignored`` tensors that are converted one after another, as those of a
    module whose weights are streamed, are in memory meanwhile: the pages of their file, until something is computed.

    With an ``allocator`` sizes are those of its blocks, and what operations hold inside themselves is CUDA's.

    Units: ``current`` and ``peak`` are bytes.
    """

    def __init__(self, *, ignored: Iterable[Tensor] = (), allocator: CachingAllocator | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._allocator = allocator
        # The tensors are held, so that no storage of another tensor can get the identity of one of these.
        self._ignored = {identity_of(tensor): tensor for tensor in ignored}
        self._alive: dict[int, weakref.ref[torch.UntypedStorage]] = {}
        self._pages = 0
        self.current = 0
        self.peak = 0

    def watch(self, tensors: Iterable[Tensor]) -> None:
        """Count these too, although they were there before."""
        for tensor in tensors:
            self._count(tensor)
        self.peak = max(self.peak, self.current)

    def __torch_dispatch__(
        self, operation: Any, _types: Any, arguments: tuple[Any, ...] = (), keywords: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation, and count what it made."""
        given = arguments, keywords or {}
        results = operation(*arguments, **given[1])
        if self._allocator is None:
            results = with_workspace(operation, arguments, results)
        there_before = {identity_of(tensor) for tensor in _tensors(given)}
        made = [tensor for tensor in _tensors(results) if identity_of(tensor) not in there_before]
        for tensor in made:
            self._count(tensor)
        if operation is torch.ops.aten._to_copy.default and identity_of(arguments[0]) in self._ignored:
            self._pages += arguments[0].nbytes
        elif made:
            self._pages = 0
        self.peak = max(self.peak, self.current + self._pages + self._inside(operation, arguments, results))
        return results

    def _inside(self, operation: Any, arguments: tuple[Any, ...], results: Any) -> int:
        if self._allocator is None:
            return bytes_inside(operation, arguments, results)
        block = self._allocator.take(bytes_inside_on_cuda(operation, arguments, results))
        self._allocator.give_back(block)
        return 0 if block is None else block.size

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        identity, size = storage._cdata, storage.nbytes()
        if identity in self._alive or identity in self._ignored:
            return
        block = None if self._allocator is None else self._allocator.take(size)
        if block is not None:
            size = block.size

        def let_go(_reference: object) -> None:
            del self._alive[identity]
            self.current -= size
            if self._allocator is not None:
                self._allocator.give_back(block)

        # Torch keeps one Python object for a storage, and keeps it as long as the storage itself (since 2.1).
        self._alive[identity] = weakref.ref(storage, let_go)
        self.current += size


def _tensors(tree: Any) -> list[Tensor]:
    return [tensor for tensor in nesting.tensors(tree) if tensor.layout == torch.strided]
