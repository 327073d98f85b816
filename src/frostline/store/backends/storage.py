"""Opening Optuna storages: any database URL, a journal file, or memory; and what is said when that fails."""

from __future__ import annotations

import json
import os
import time
import traceback
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from frostline.errors import OptionError, StudyError
from frostline.inputs.credentials import Secrets, holds_password, without_password

if TYPE_CHECKING:
    from optuna.storages import BaseStorage, JournalStorage, RDBStorage
    from sqlalchemy import Engine

# Optuna is imported where it is used: the names of storages are needed before anything is opened.
DEFAULT_STORAGE = "sqlite:///frostline.db"
MEMORY = ":memory:"

# Two processes on one SQLite file wait for each other; Optuna's default of five seconds is short on a slow disk.
_SQLITE_WAIT_SECONDS = 60
_OPENING_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Storage:
    """An Optuna storage, opened once and handed on, and what it is called in messages."""

    place: str
    """What the user gave: a URL, which may hold a password, the path of a journal file, or ``:memory:``."""
    backend: BaseStorage
    is_own: bool = False
    """Whether it was opened here: nobody else in this process holds a study in it."""

    @property
    def is_memory(self) -> bool:
        """Whether it ends with the process, and no other can reach it."""
        from optuna.storages import InMemoryStorage

        return isinstance(self.backend, InMemoryStorage)

    @property
    def shown(self) -> str:
        """The place as it may be shown."""
        return without_password(self.place)

    def errors(self) -> StorageErrors:
        """Return a context that turns whatever the storage raises into one StudyError that names it."""
        return StorageErrors(self.place)

    def reading_errors(self) -> StorageErrors:
        """Return the same for reading alone, where everything that is raised comes of what lies in the storage."""
        return StorageErrors(self.place, only_storage=True)


def checked_place(storage: object) -> str:
    """Return what names a storage as text, also a journal file's ``Path``. Raises: OptionError if it names none."""
    place = os.fspath(storage) if isinstance(storage, os.PathLike) else storage
    if not isinstance(place, str):
        raise OptionError(
            f"storage is {place!r:.60}, but must be a database's URL, the path of a journal file, or {MEMORY!r}."
        )
    return place


@contextmanager
def opened(storage: str | Storage, *, must_exist: bool = False) -> Iterator[Storage]:
    """Return ``storage`` opened, for as long as the context lasts; one that is open already stays so afterwards.

    Raises: StudyError if it cannot be opened, is corrupt, or, where it ``must_exist``, is not there.
    """
    if isinstance(storage, Storage):
        yield storage
        return
    if must_exist and not exists(storage):
        raise StudyError(
            f"there is no storage {without_password(storage)}: name the one that the search was given."
        )
    backend = open_storage(storage)
    try:
        yield Storage(storage, backend, is_own=True)
    finally:
        with StorageErrors(storage):
            close_storage(backend)


def open_storage(storage: str) -> BaseStorage:
    """Return the Optuna storage behind ``storage``.

    A database URL (``sqlite:///study.db``, ``postgresql://...``) opens Optuna's RDB storage, ``:memory:`` one that ends
    with the process, and anything else is the path of a journal file.
    Raises: StudyError if it cannot be opened or is corrupt.
    """
    if storage != MEMORY and "://" not in storage and holds_password(storage):
        raise StudyError(
            f"the storage {without_password(storage)} looks like a database's URL, but is none: write it as "
            f"postgresql://user@host/name, with the password behind the user."
        )
    from optuna.storages import InMemoryStorage, get_storage

    if storage == MEMORY:
        return InMemoryStorage()
    with StorageErrors(storage, only_storage=True):
        if "://" in storage:
            return get_storage(_open_database(storage))
        return _open_journal(Path(storage))


def exists(storage: str) -> bool:
    """Return whether there is a storage to look at; of a database on a server, only asking it can tell.

    Raises: StudyError if it is no name of a file.
    """
    with StorageErrors(storage):
        if storage.startswith("sqlite:///"):
            return Path(storage.removeprefix("sqlite:///").partition("?")[0]).exists()
        return "://" in storage or storage == MEMORY or Path(storage).exists()


def close_storage(storage: BaseStorage) -> None:
    """Give back what ``storage`` holds open: a database's connections. It may not be used afterwards."""
    from optuna.storages import RDBStorage

    storage.remove_session()
    # Optuna (5.0) wraps its RDB storage in a cache, and disposes of the engine's connection pool nowhere.
    backend = getattr(storage, "_backend", None)
    if isinstance(backend, RDBStorage):
        backend.engine.dispose()


def _open_database(url: str) -> RDBStorage:
    engine_arguments: dict[str, object] = {}
    if url.startswith("sqlite:"):
        engine_arguments["connect_args"] = {"timeout": _SQLITE_WAIT_SECONDS}
    for _ in range(_OPENING_ATTEMPTS - 1):
        try:
            return _connected(url, engine_arguments)
        except Exception as error:
            # Two processes that open a new database at once both make its tables, and one of them fails (Optuna 5.0).
            if not any(words in str(error) for words in ("UNIQUE constraint", "already exists", "duplicate key")):
                raise
            time.sleep(0.2)
    return _connected(url, engine_arguments)


def _connected(url: str, engine_arguments: dict[str, object]) -> RDBStorage:
    """Return Optuna's storage of a database, which gives its connections back when nobody holds it any more."""
    from optuna.storages import RDBStorage

    database = RDBStorage.__new__(RDBStorage)  # so that what it has connected to is known even where it fails
    try:
        RDBStorage.__init__(database, url, engine_kwargs=engine_arguments)
    except BaseException:
        if hasattr(database, "engine"):
            database.engine.dispose()
        raise
    # A result's study, which has no end of its own, connects again after the search has closed everything.
    weakref.finalize(database, _give_back, database.engine, os.getpid())
    return database


def _give_back(engine: Engine, process: int) -> None:
    # A fork has its parent's connections too, and would end them for both.
    if os.getpid() == process:
        engine.dispose()


_SQLITE = b"SQLite format 3\0"
_ENTRY = b'{"op_code"'
"""What every line of Optuna's journals begins with."""


def _open_journal(path: Path) -> JournalStorage:
    # What is no file, such as /dev/full, loses what is written to it, or waits for ever.
    if not path.parent.is_dir() or (path.exists() and not path.is_file()):
        raise StudyError(
            f"the journal file {str(path)!r} cannot be opened: name a file in a folder that exists, or a database URL "
            f"such as {DEFAULT_STORAGE}."
        )
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

    # JournalFileBackend guards the file with this lock too: a writer that is half-way through a line holds it.
    lock = JournalFileSymlinkLock(str(path))
    if path.exists():
        _refuse_other_file(path)
        # A journal in a folder that may only be read can be looked at: there no lock can be made.
        if _is_torn(path):
            lock.acquire()
            try:
                _drop_torn_line(path)
            finally:
                lock.release()
    return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))


def _refuse_other_file(path: Path) -> None:
    """Raise StudyError if what lies at ``path`` is no journal: it would be cut, or written to."""
    with path.open("rb") as file:
        begin = file.read(len(_SQLITE))
    if begin == _SQLITE:
        raise StudyError(f"{str(path)!r} is an SQLite database: write it as sqlite:///{path}.")
    if not begin.startswith(_ENTRY[: len(begin)]):
        raise StudyError(
            f"{str(path)!r} is no journal of studies: name another file, or a database URL such as {DEFAULT_STORAGE}."
        )


def _is_torn(path: Path) -> bool:
    """Return whether the last line has no end: it is broken off, or being written."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        return file.read(1) not in (b"", b"\n")


def _drop_torn_line(path: Path) -> None:
    """Cut off a last line without its end: the write that a full disk or a dying machine broke off.

    Optuna (5.0) appends the next entry to the torn one, and then refuses the whole file.
    """
    content = path.read_bytes()
    if content and not content.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(content.rfind(b"\n") + 1)


class StorageErrors:
    """A context that turns whatever a storage raises into one StudyError that names it.

    Where there is ``only_storage`` at work, as when it is opened, everything that is raised is its own, or its URL's.
    """

    # A class, for a generator takes longer, and this is entered several times for every evaluation.
    __slots__ = ("_only_storage", "_place")

    def __init__(self, place: str, *, only_storage: bool = False) -> None:
        self._place = place
        self._only_storage = only_storage

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Raise the StudyError that says the same as ``error``, if a storage raised it."""
        if not isinstance(error, Exception) or isinstance(error, StudyError):
            return
        sentence = _sentence(error, self._place, only_storage=self._only_storage)
        if sentence is not None:
            # A traceback shows the driver's own words too.
            is_secret = Secrets(self._place).are_in("".join(traceback.format_exception(error)))
            raise StudyError(sentence) from (None if is_secret else error)


def _sentence(error: Exception, place: str, *, only_storage: bool) -> str | None:
    """Return what is said of an error of the storage ``place``, or None if the error is not a storage's."""
    from optuna.exceptions import StorageInternalError

    shown = without_password(place)
    reason = Secrets(place).hidden_in(_root_cause(error))
    if isinstance(error, StorageInternalError):
        return f"the storage {shown} failed: {reason}."
    if isinstance(error, (json.JSONDecodeError, UnicodeDecodeError)):
        return (
            f"the journal file {shown!r} is corrupt ({error}): restore it from a copy, or name another --storage."
        )
    if isinstance(error, ImportError):
        return (
            f"the storage {shown} needs a database driver that is not installed; for PostgreSQL: "
            f"pip install 'frostline[postgresql]'."
        )
    # SQLAlchemy's own errors for an unknown dialect, a malformed URL or a file that is no database have no common
    # parent that could be named without importing it.
    if only_storage or _is_storage_error(error):
        return (
            f"the storage {shown} cannot be used: {reason}. Give a database URL such as {DEFAULT_STORAGE} or "
            f"postgresql://user@host/name, or the path of a journal file."
        )
    return None


def _is_storage_error(error: BaseException) -> bool:
    module = type(error).__module__.split(".")[0]
    return isinstance(error, OSError) or module in {"sqlalchemy", "sqlite3", "alembic", "psycopg", "psycopg2"}


def _root_cause(error: BaseException) -> str:
    """Return the first line of the driver's own message, which says more than its wrappers do."""
    while (original := getattr(error, "orig", None) or error.__cause__ or error.__context__) is not None:
        error = original
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
