"""Stand-ins for what ``torch.cuda`` and ``torch.accelerator`` say of a card."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from tests.rehearsal.card_graphs import GRAPHS
from tests.rehearsal.card_state import GENERATORS, PINNED, WAITS
from tests.rehearsal.card_streams import STREAMS, Event, Stream
from tests.rehearsal.host_card import CARD, MEMORY, is_on_card

NAME = "a card of host memory"
TOTAL_BYTES = 16 * 2**30


class CUDAGraph:
    """A graph that runs what was captured again, on the same memory."""

    def __init__(self, **_: Any) -> None:
        self._tape: list[Any] | None = None

    def capture_begin(self, **_: Any) -> None:
        """Begin to capture."""
        GRAPHS.begin()

    def capture_end(self) -> None:
        """End it."""
        self._tape = GRAPHS.end()

    def replay(self) -> None:
        """Run what was captured."""
        assert self._tape is not None, "nothing was captured"
        with torch._C.DisableTorchFunction(), torch._C._AutoDispatchBelowAutograd(), torch.no_grad():
            for operation in self._tape:
                operation()

    def reset(self) -> None:
        """Let go of all."""
        self._tape = None


class _GeneratorKind(type(torch._C.Generator)):
    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, torch._C.Generator)


class Generator(torch._C.Generator, metaclass=_GeneratorKind):
    """Makes torch's generators, and those of the card, which the CPU build cannot."""

    def __new__(cls, device: Any = "cpu") -> Any:
        made = torch._C.Generator()
        return GENERATORS.add(made) if torch.device(device).type == "cuda" else made


def _get_rng_state(_: Any = "cuda") -> Tensor:
    return GENERATORS.default.get_state()


def _set_rng_state(state: Tensor, _: Any = "cuda") -> None:
    GENERATORS.default.set_state(state)


def _set_sync_debug_mode(mode: Any) -> None:
    WAITS.mode = {0: "default", 1: "warn", 2: "error"}.get(mode, mode)


def _reset_peak(_: Any = None) -> None:
    MEMORY.peak = MEMORY.allocated


def stand_in() -> None:
    """Put all stand-ins in their places, for good."""
    properties = SimpleNamespace(name=NAME, total_memory=TOTAL_BYTES, major=9, minor=0, multi_processor_count=1)
    answers: dict[str, Any] = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "is_bf16_supported": lambda *_, **__: True,
        "_is_in_bad_fork": lambda: False,
        "current_device": lambda: 0,
        "device_count": lambda: 1,
        "get_device_name": lambda _=None: NAME,
        "get_device_properties": lambda _=None: properties,
        "get_device_capability": lambda _=None: (9, 0),
        "mem_get_info": lambda _=None: (TOTAL_BYTES - MEMORY.reserved, TOTAL_BYTES),
        "memory_allocated": lambda _=None: MEMORY.allocated,
        "memory_reserved": lambda _=None: MEMORY.reserved,
        "max_memory_allocated": lambda _=None: MEMORY.peak,
        "reset_peak_memory_stats": _reset_peak,
        "empty_cache": MEMORY.give_back,
        "synchronize": lambda _=None: STREAMS.synchronise(),
        "default_generators": (GENERATORS.default,),
        "manual_seed": lambda seed: GENERATORS.default.manual_seed(seed),
        "manual_seed_all": lambda seed: GENERATORS.default.manual_seed(seed),
        "get_rng_state": _get_rng_state,
        "set_rng_state": _set_rng_state,
        "get_rng_state_all": lambda: [_get_rng_state()],
        "set_rng_state_all": lambda states: _set_rng_state(states[0]),
        "Stream": Stream,
        "Event": Event,
        "CUDAGraph": CUDAGraph,
        "stream": STREAMS.on,
        "current_stream": lambda _=None: STREAMS.current(),
        "set_sync_debug_mode": _set_sync_debug_mode,
        "get_sync_debug_mode": lambda: ("default", "warn", "error").index(WAITS.mode),
    }
    for name, answer in answers.items():
        setattr(torch.cuda, name, answer)
    for name, answer in (
        ("is_available", lambda: True),
        ("device_count", lambda: 1),
        ("current_accelerator", lambda check_available=False: torch.device("cuda")),
        ("synchronize", lambda _=None: STREAMS.synchronise()),
    ):
        setattr(torch.accelerator, name, answer)
    torch.Generator = Generator
    _stand_in_for_methods()


def _stand_in_for_methods() -> None:
    Tensor.record_stream = lambda self, stream: STREAMS.record(self, stream)
    Tensor.pin_memory = lambda self, device=None: PINNED.copy_of(self)
    Tensor.is_pinned = lambda self, device=None: PINNED.has(self)
    own_deepcopy = Tensor.__deepcopy__

    def deepcopy(self: Tensor, memo: dict[Any, Any]) -> Tensor:
        if type(self) is not Tensor or not is_on_card(self) or id(self) in memo:
            return own_deepcopy(self, memo)
        copied = torch.empty_strided(self.shape, self.stride(), dtype=self.dtype, device=CARD).copy_(self.detach())
        memo[id(self)] = copied.requires_grad_(self.requires_grad)
        return copied

    Tensor.__deepcopy__ = deepcopy
    own_cpu = torch.UntypedStorage.cpu

    def storage_cpu(self: torch.UntypedStorage) -> torch.UntypedStorage:
        if self.device.type != "cuda":
            return own_cpu(self)
        WAITS.add("storage.cpu")
        size = self.nbytes()
        host = torch.empty(size, dtype=torch.uint8)
        ctypes.memmove(host.data_ptr(), self.data_ptr(), size)
        return host.untyped_storage()

    torch.UntypedStorage.cpu = storage_cpu
