"""Whether the file that a study lies in is still where it was opened: databases and journals go on without noticing."""

from __future__ import annotations

import os
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from frostline.errors import StudyError

if TYPE_CHECKING:
    from frostline.store.backends.storage import Storage


@dataclass(frozen=True, slots=True, weakref_slot=True)
class StudyFile:
    """The file of a storage, and what told it from others when it was opened."""

    shown: str
    path: Path
    identity: tuple[int, int]

    @classmethod
    def of(cls, storage: Storage) -> StudyFile | None:
        """Return the file of ``storage``; None if it lies in memory or on a server."""
        path = _path_of(storage)
        identity = None if path is None else _identity_of(path)
        if path is None or identity is None:
            return None
        file = cls(storage.shown, path, identity)
        if _is_journal(storage):
            # Nobody else keeps a journal open. While it is, no file that is made in its place gets its number. A database is
            # kept open by its driver, which would lose its locks if we closed it.
            weakref.finalize(file, os.close, os.open(path, os.O_RDONLY))
        return file

    def check(self) -> None:
        """Raise StudyError if the file was deleted or moved."""
        # SQLite writes to a file without a name as to any other; a journal is made anew, empty, by whoever appends to it.
        if _identity_of(self.path) != self.identity:
            raise StudyError(
                f"the storage {self.shown} was deleted, moved or replaced while the search ran, and what has ended since "
                f"may be lost: put the file back and run the same again, or name another storage."
            )


def _is_journal(storage: Storage) -> bool:
    from optuna.storages import JournalStorage

    return isinstance(storage.backend, JournalStorage)


def _path_of(storage: Storage) -> Path | None:
    from optuna.storages import RDBStorage

    if _is_journal(storage):
        return Path(storage.place)
    # Optuna (5.0) wraps its RDB storage in a cache, and says nowhere what it wraps.
    database = getattr(storage.backend, "_backend", None)
    if not isinstance(database, RDBStorage) or database.engine.url.get_backend_name() != "sqlite":
        return None
    path = database.engine.url.database
    return Path(path) if path and path != ":memory:" and not path.startswith("file:") else None


def _identity_of(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
