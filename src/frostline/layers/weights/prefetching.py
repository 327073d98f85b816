"""Weights on their way to an accelerator while the module before them computes."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor


class Ahead:
    """Copies streamed weights to a CUDA device in a thread, on one stream of its own. A copy of it starts empty.

    One stream, and not one for every copy: torch's allocator keeps what was freed for the stream that it was taken on.
    What order streams and memory have is rehearsed (``tests/rehearsal``); on a card it has never run.
    """

    def __init__(self) -> None:
        self._threads: ThreadPoolExecutor | None = None
        self._streams: dict[torch.device, Any] = {}
        self._copies: dict[int, Future[tuple[Tensor, Any]]] = {}

    def begin(self, stored: Tensor, device: torch.device) -> None:
        """Start to copy."""
        if stored.data_ptr() not in self._copies:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(1)
            if device not in self._streams:
                self._streams[device] = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            copying = self._threads.submit(_copied_ahead, stored, device, self._streams[device])
            self._copies[stored.data_ptr()] = copying

    def take(self, stored: Tensor, device: torch.device) -> Tensor | None:
        """Return the copy, ready for the current stream; None if none was begun."""
        if not self._copies:
            return None
        copying = self._copies.pop(stored.data_ptr(), None)
        if copying is None:
            return None
        there, arrived = copying.result()
        if there.device != device:
            return None
        stream = torch.cuda.current_stream(device)
        stream.wait_event(arrived)
        # Else the next copy may be given its memory while this stream still computes with it.
        there.record_stream(stream)
        return there

    def __deepcopy__(self, memo: dict[int, Any]) -> Ahead:
        return Ahead()

    def __reduce__(self) -> Any:
        return Ahead, ()


def _copied_ahead(stored: Tensor, device: torch.device, stream: Any) -> tuple[Tensor, Any]:
    with torch.cuda.stream(stream):
        there = stored.pin_memory().to(device, non_blocking=True)
        arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        arrived.record(stream)
    return there, arrived
