"""A folder of this machine's file system, or of one that several machines share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from frostline.atomic import UnnamedFile


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalFolder:
    """See ``Folder``. New files take their names by a rename, after they have reached the disk."""

    path: Path

    def __str__(self) -> str:
        """The path."""
        return f"{self.path}"

    @property
    def name(self) -> str:
        """See ``Folder``."""
        return self.path.name

    @property
    def parent(self) -> LocalFolder:
        """See ``Folder``."""
        return LocalFolder(path=self.path.parent)

    def below(self, name: str) -> LocalFolder:
        """See ``Folder``."""
        return LocalFolder(path=self.path / name)

    def place_of(self, name: str) -> str:
        """See ``Folder``."""
        return f"{self.path / name}"

    def check(self) -> None:
        """Do nothing: a full disk may be emptied while trainings run, and costs no more than what it cannot take."""

    def exists(self) -> bool:
        """See ``Folder``."""
        return self.path.exists()

    def names(self, prefix: str = "") -> list[str]:
        """See ``Folder``."""
        return sorted(
            entry.name for entry in self._entries() if entry.name.startswith(prefix) and not entry.is_dir()
        )

    def folders(self) -> list[str]:
        """See ``Folder``."""
        return sorted(entry.name for entry in self._entries() if entry.is_dir())

    @contextmanager
    def new_file(self, *, prefix: str) -> Iterator[_Named]:
        """See ``Folder``."""
        self.path.mkdir(parents=True, exist_ok=True)
        with UnnamedFile(self.path, prefix=prefix) as unnamed:
            yield _Named(unnamed=unnamed, folder=self.path)

    @contextmanager
    def fetched(self, name: str) -> Iterator[Path]:
        """See ``Folder``."""
        yield self.path / name

    def delete(self, name: str) -> None:
        """See ``Folder``."""
        (self.path / name).unlink(missing_ok=True)

    def clear(self) -> None:
        """See ``Folder``."""
        shutil.rmtree(self.path)

    def _entries(self) -> list[os.DirEntry[str]]:
        # A folder that may not be looked into is as good as none.
        try:
            with os.scandir(self.path) as entries:
                return [*entries]
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return []


@dataclass(frozen=True, slots=True, kw_only=True)
class _Named:
    """See ``NewFile``."""

    unnamed: UnnamedFile
    folder: Path

    @property
    def file(self) -> IO[bytes]:
        return self.unnamed.file

    def named(self, name: str) -> None:
        self.unnamed.named(self.folder / name)
