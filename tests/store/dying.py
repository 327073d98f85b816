"""Workers that die in the middle of what they do, and those of them that die when they write."""

from __future__ import annotations

from typing import Any


class KilledError(BaseException):
    """What a worker dies of."""


class Fragile:
    """A storage whose worker dies instead of writing to a trial for the ``moment``-th time."""

    def __init__(self, storage: Any, moment: int) -> None:
        self.storage = storage
        self.left = moment

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("set_trial", "create_new_trial")):
            self.left -= 1
            if self.left < 0:
                raise KilledError
        return getattr(self.storage, name)
