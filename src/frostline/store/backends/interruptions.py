"""Ctrl-C and the order to end wait until what is read or written in a storage is over."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let the first signal that tells this process to end be handled after what is within; a second one is heard at once.

    Python raises KeyboardInterrupt between any two lines. Raised within a transaction, it would leave that open as long as
    somebody holds the traceback, and its lock keep everybody from writing: this process too, which has yet to say goodbye.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Signals are handled by the main thread alone.
        return
    handlers = {number: handler for number in _SIGNALS if callable(handler := signal.getsignal(number))}
    waiting: list[int] = []

    def wait(number: int, frame: FrameType | None) -> None:
        waiting.append(number)
        if len(waiting) > 1:
            handlers[signal.Signals(number)](number, frame)

    for number in handlers:
        signal.signal(number, wait)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if waiting:
            handlers[signal.Signals(waiting[0])](waiting[0], None)
