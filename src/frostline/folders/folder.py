"""What a folder of files is asked for, wherever it lies: files that are there whole or not at all."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Protocol

logger = logging.getLogger(__name__)


class NewFile(Protocol):
    """A file that is written, and not there for anybody until it has a name."""

    @property
    def file(self) -> IO[bytes]:
        """The file, open to write and to read back, under a name of its own on this machine (``file.name``)."""
        ...

    def named(self, name: str) -> None:
        """Close the file and give it its name in the folder, in place of what was there.

        Raises: OSError if that fails: what was there before is there still.
        """
        ...


class Folder(Protocol):
    """A folder of runs. It can be pickled, and means the same in every process that reaches the place.

    As text it is its place, as it may be shown: without a password. Every method that asks the place raises OSError, in one
    line, if it cannot be asked; a file or a folder that is not there is an answer, and no error.
    """

    @property
    def name(self) -> str:
        """The last part of its place."""
        ...

    @property
    def parent(self) -> Folder:
        """The folder that it is in."""
        ...

    def below(self, name: str) -> Folder:
        """Return the folder ``name`` in it, which need not be there."""
        ...

    def place_of(self, name: str) -> str:
        """Return where a file lies, as it may be shown."""
        ...

    def check(self) -> None:
        """Raise OptionError if nothing can be written there, as far as that cannot be known from its place alone."""
        ...

    def exists(self) -> bool:
        """Return whether there is anything in it; of a local one, whether it is there."""
        ...

    def names(self, prefix: str = "") -> list[str]:
        """Return the names of the files in it that begin with ``prefix``, sorted: those too that never became whole."""
        ...

    def folders(self) -> list[str]:
        """Return the names of the folders in it, sorted."""
        ...

    def new_file(self, *, prefix: str) -> AbstractContextManager[NewFile]:
        """Return a new file. One that a process died of, and left behind, has a name that begins with ``prefix``."""
        ...

    def fetched(self, name: str) -> AbstractContextManager[Path]:
        """Return where a file of the folder can be read on this machine, as long as the context lasts."""
        ...

    def delete(self, name: str) -> None:
        """Delete a file."""
        ...

    def clear(self) -> None:
        """Delete the folder and all that is in it."""
        ...


def delete_if_possible(folder: Folder, name: str) -> None:
    """Delete a file that costs nothing but its room: where that fails, a warning is logged."""
    try:
        folder.delete(name)
    except OSError as error:
        logger.warning("%s could not be deleted: %s", folder.place_of(name), error)
