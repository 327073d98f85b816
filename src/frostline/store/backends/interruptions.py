"""Ctrl-C and the order to end wait until what is read or written in a storage is over."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, TrialState

    from frostline.store.backends.access import Access, Attribute, Claims

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


class UninterruptedAccess:
    """Reads and writes as ``within`` does, while signals wait: as ``store.backends.access.Access`` says."""

    def __init__(self, within: Access) -> None:
        self.within = within

    def trials(self) -> list[FrozenTrial]:
        """See ``Access``."""
        with uninterrupted():
            return self.within.trials()

    def num_trials(self) -> int:
        """See ``Access``."""
        with uninterrupted():
            return self.within.num_trials()

    def attributes(self) -> dict[str, Any]:
        """See ``Access``."""
        with uninterrupted():
            return self.within.attributes()

    def set_attribute(self, attribute: Attribute) -> None:
        """See ``Access``."""
        with uninterrupted():
            self.within.set_attribute(attribute)

    def claim(self, claims: Claims, attribute: Attribute) -> list[int]:
        """See ``Access``."""
        with uninterrupted():
            return self.within.claim(claims, attribute)

    def record(self, trial_id: int, rung: int, score: float | None, attribute: Attribute) -> bool:
        """See ``Access``."""
        with uninterrupted():
            return self.within.record(trial_id, rung, score, attribute)

    def end(self, trial_id: int, state: TrialState, score: float | None, reason: str | None) -> bool:
        """See ``Access``."""
        with uninterrupted():
            return self.within.end(trial_id, state, score, reason)
