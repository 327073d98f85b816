"""What the card is asked for besides computing: waits, random numbers, memory of the host that it reads by itself."""

from __future__ import annotations

import weakref
from collections import Counter
from typing import Any

import torch
from torch import Tensor


class Waits:
    """Where the host waited for the card, and whether it may."""

    def __init__(self) -> None:
        self.mode = "default"
        self.is_capturing = False
        self.seen: Counter[str] = Counter()

    def add(self, name: str) -> None:
        """Note a wait. Raises: RuntimeError, as torch's sync debug mode or a capture, if there may be none."""
        if self.is_capturing:
            raise RuntimeError(f"CUDA error: operation not permitted when stream is capturing ({name})")
        self.seen[name] += 1
        if self.mode == "error":
            raise RuntimeError(f"called a synchronizing CUDA operation ({name})")


class Generators:
    """The generators of the card: torch's own of the CPU, known to be the card's."""

    def __init__(self) -> None:
        # By what C++ knows them by: a kernel is given another Python object. Kept, so that none gets another's address.
        self._own: dict[int, torch.Generator] = {}
        self.default = self.add(torch._C.Generator())

    def add(self, generator: torch.Generator) -> torch.Generator:
        """Make a generator one of the card's."""
        self._own[generator._cdata] = generator
        return generator

    def __contains__(self, generator: torch.Generator) -> bool:
        return generator._cdata in self._own


class Pinned:
    """Host memory that the card reads by itself."""

    def __init__(self) -> None:
        self._storages: dict[int, Any] = {}

    def copy_of(self, tensor: Tensor) -> Tensor:
        """Return a copy in pinned memory."""
        copied = tensor.clone()
        storage = copied.untyped_storage()
        identity = storage._cdata
        self._storages[identity] = weakref.ref(storage, lambda _: self._storages.pop(identity))
        return copied

    def has(self, tensor: Tensor) -> bool:
        """Return whether a tensor lies there."""
        return tensor.untyped_storage()._cdata in self._storages


PINNED = Pinned()
WAITS = Waits()
GENERATORS = Generators()
