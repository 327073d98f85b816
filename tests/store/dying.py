"""Workers that die in the middle of what they do, and those of them that die when they write."""

from __future__ import annotations

from typing import Any

from frostline.store.backends.any_storage import PublicAccess
from frostline.store.sharing.workers import SharedTurn
from frostline.store.study import SearchStudy


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


def let_die(study: SearchStudy, moment: int) -> None:
    """Let the worker of ``study`` die instead of writing to a trial for the ``moment``-th time, each entry by itself."""
    access = PublicAccess(Fragile(study._storage, moment), study._study_id)  # type: ignore[arg-type]
    study._access = access
    assert isinstance(study._turn, SharedTurn)
    study._turn._access = access
