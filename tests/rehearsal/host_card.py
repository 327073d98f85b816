"""A CUDA device made of host memory: what a CPU build of torch lacks to hold plain tensors on ``cuda:0`` and to run them.

It is put into a process once, for good (``tests.rehearsal.plugin``), and never into that of other tests. Tensors are torch's
own, with the device, the keys and the storage of a card's; kernels are those of the CPU (``card_kernels``). So numbers are a
CPU's bit by bit, while a mixture of devices, a generator of the wrong one or a hidden wait fails as on a card.
"""

from __future__ import annotations

import ctypes
import weakref
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.rehearsal.card_streams import STREAMS

CARD = torch.device("cuda", 0)

# Which virtual methods say that there is a card: isBuilt, isAvailable, hasPrimaryContext, init, deviceCount of ATen's
# AcceleratorHooksInterface.h, and hasCUDA of its CUDAHooksInterface.h (torch 2.13).
_ANSWERED_YES = (2, 3, 4, 5, 6, 16)
# The two words before the first method: the offset to the top, and the type.
_TABLE_HEAD = 2
_TABLE_WORDS = 96

_DLPACK_CPU, _DLPACK_CUDA = 1, 2
_BLOCK_BYTES = 512
"""CUDA's caching allocator hands out multiples of this."""

_KEPT: list[Any] = []
"""What C++ points to, and must live as long as the process."""


def insert() -> None:
    """Have torch's C++ half believe in one CUDA device."""
    # Before anything runs backward: then torch decides, once, how many devices get a thread.
    libraries = Path(torch.__file__).parent / "lib"
    _insert_hooks(ctypes.CDLL(str(libraries / "libtorch_cpu.so")))
    _insert_guard(ctypes.CDLL(str(libraries / "libc10.so")))
    torch.cuda._lazy_init = lambda: None


def _insert_hooks(library: ctypes.CDLL) -> None:
    """Let a CPU build's hooks, which say no to everything, say that there is CUDA."""
    hooks = library._ZN2at6detail12getCUDAHooksEv
    hooks.restype = ctypes.c_void_p
    pointer = ctypes.c_void_p.from_address(hooks())
    word = ctypes.sizeof(ctypes.c_void_p)
    table = (ctypes.c_void_p * _TABLE_WORDS)()
    assert pointer.value is not None
    ctypes.memmove(table, pointer.value - _TABLE_HEAD * word, word * _TABLE_WORDS)
    # A function of C that returns 1, whatever it is given, and needs no lock.
    yes = ctypes.cast(ctypes.pythonapi.Py_IsInitialized, ctypes.c_void_p).value
    for method in _ANSWERED_YES:
        table[_TABLE_HEAD + method] = yes
    pointer.value = ctypes.addressof(table) + _TABLE_HEAD * word
    _KEPT.append(table)


def _insert_guard(library: ctypes.CDLL) -> None:
    """Register a guard that does nothing for CUDA: one that torch lets Python write for another kind of device."""

    class Guard(torch._C._acc.DeviceGuard):
        def type_(self) -> Any:
            return torch._C._autograd.DeviceType.CUDA

    guard = Guard()
    torch._C._acc.register_python_privateuseone_device_guard(guard)
    cuda, private = 1, 20
    registry = (ctypes.c_void_p * (private + 1)).in_dll(library, "_ZN3c104impl26device_guard_impl_registryE")
    registry[cuda], registry[private] = registry[private], None
    _KEPT.append(guard)


class _DLDevice(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int32), ("index", ctypes.c_int32))


class _DLTensor(ctypes.Structure):
    """The beginning of what a DLPack capsule points to."""

    _fields_ = (("data", ctypes.c_void_p), ("device", _DLDevice))


_pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
_pointer_of.restype = ctypes.c_void_p
_pointer_of.argtypes = [ctypes.py_object, ctypes.c_char_p]


class Memory:
    """What tensors take on the card, in blocks as CUDA's caching allocator counts them. Units: bytes."""

    def __init__(self) -> None:
        self.allocated = self.peak = self.reserved = 0
        self._alive: dict[int, Any] = {}

    def add(self, storage: torch.UntypedStorage) -> None:
        """Count a storage until nothing refers to it."""
        identity = storage._cdata
        size = -(-storage.nbytes() // _BLOCK_BYTES) * _BLOCK_BYTES

        def let_go(_: object) -> None:
            del self._alive[identity]
            self.allocated -= size

        self._alive[identity] = weakref.ref(storage, let_go)
        self.allocated += size
        self.peak = max(self.peak, self.allocated)
        self.reserved = max(self.reserved, self.allocated)

    def give_back(self) -> None:
        """Let go of what is held and not allocated."""
        self.reserved = self.allocated


MEMORY = Memory()


def on_card(tensor: Tensor) -> Tensor:
    """Return the very memory of a CPU tensor as a tensor on the card."""
    moved = _relabelled(tensor, _DLPACK_CUDA)
    MEMORY.add(moved.untyped_storage())
    STREAMS.took(moved.untyped_storage())
    return moved


def on_host(tensor: Tensor) -> Tensor:
    """Return the very memory of a tensor on the card as a CPU tensor."""
    return _relabelled(tensor, _DLPACK_CPU)


def _relabelled(tensor: Tensor, device: int) -> Tensor:
    capsule = torch.utils.dlpack.to_dlpack(tensor)
    described = _DLTensor.from_address(_pointer_of(capsule, b"dltensor"))
    described.device.type, described.device.index = device, 0
    relabelled: Tensor = torch._C._from_dlpack(capsule)
    return relabelled


def is_on_card(value: Any) -> bool:
    """Return whether ``value`` is a tensor there."""
    return isinstance(value, Tensor) and value.device.type == "cuda"
