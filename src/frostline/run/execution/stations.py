"""What runs where: executors that know it tell it, to be shown by ``frostline status --watch``."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from frostline.process import resident_bytes
from frostline.records import Request, Station

if TYPE_CHECKING:
    import torch

    from frostline.protocols import Executor


@runtime_checkable
class TellsStations(Protocol):
    """An executor that knows which process trains what; it may be asked by another thread at any time."""

    def stations(self) -> Sequence[Station]:
        """Return the processes that train, also those that have nothing to do now."""
        ...


def asking(executor: Executor) -> Callable[[], Sequence[Station] | None]:
    """Return what asks an executor which process trains what; it returns None where the executor does not tell."""
    # Whether it does is found out once: to look for a protocol's methods takes longer than to ask.
    return executor.stations if isinstance(executor, TellsStations) else lambda: None


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """The calling process as a station."""

    device: str = ""
    promised_bytes: int | None = None
    used: Callable[[], int | None] = resident_bytes

    @classmethod
    def on(cls, device: torch.device, promised_bytes: int) -> Here:
        """Return this process on a device, where its trainings may take so many bytes."""
        if device.type != "cuda":
            return cls(device=f"{device}", promised_bytes=promised_bytes)
        # torch is loaded by whoever has a device.
        from torch import cuda

        return cls(
            device=f"{device} ({cuda.get_device_name(device)})",
            promised_bytes=promised_bytes,
            used=lambda: cuda.memory_reserved(device),
        )

    def training(self, requests: Iterable[Request], since: float) -> tuple[Station, ...]:
        """Return it, with what it trains since a moment of the time of day; nothing: it has nothing to do."""
        requests = tuple(requests)
        return (
            Station(
                host=socket.gethostname(),
                pid=os.getpid(),
                device=self.device,
                requests=requests,
                since=since if requests else None,
                promised_bytes=self.promised_bytes,
                used_bytes=self.used(),
            ),
        )
