"""Files that are there whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING
from uuid import uuid4

from frostline.errors import OptionError

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self


class UnnamedFile:
    """A new file in ``folder``, open to write and to read back, that takes its name when it is whole.

    Until then its name begins with ``prefix`` and ends with ".partial". Leaving the context closes it, and deletes what has
    not been named.
    Raises: OSError, here and in what writes to it.
    """

    def __init__(self, folder: Path, *, prefix: str) -> None:
        self._path: Path | None = folder / f"{prefix}.{uuid4().hex[:12]}.partial"
        # Unlike a file of tempfile's this is as readable as any other new file.
        self.file: IO[bytes] = self._path.open("x+b")

    def __enter__(self) -> Self:
        return self

    def named(self, path: Path) -> None:
        """Close the file and give it its name, in the same folder, in place of what was there."""
        assert self._path is not None, f"{path} is a second name"
        self.file.flush()
        # The name must not reach the disk before the contents.
        os.fsync(self.file.fileno())
        self.file.close()  # Windows renames no open file
        self._path.replace(path)
        self._path = None
        _flush_folder(path.parent)

    def discard(self) -> None:
        """Close the file, and delete it if it has no name."""
        # What could not be written is tried again by close, and fails again.
        with suppress(OSError):
            self.file.close()
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
            self._path = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.discard()


def write_whole(path: Path, contents: bytes | Callable[[IO[bytes]], object]) -> None:
    """Write a file, bytes or what a function writes, in folders made for it, or leave what was there.

    Raises: OptionError if that fails.
    """
    with _path_errors(path):
        _refuse_device(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with UnnamedFile(path.parent, prefix=f".{path.name}") as written:
            if callable(contents):
                contents(written.file)
            else:
                written.file.write(contents)
            written.named(path)


def check_writable(path: Path) -> None:
    """Raise OptionError if ``write_whole`` could not write ``path``: known before what it is to hold is computed."""
    with _path_errors(path):
        _refuse_device(path)
        folder = path.parent
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        with UnnamedFile(folder, prefix=f".{path.name}"):
            pass


@contextmanager
def _path_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        # torch.save raises another error while it handles the one that counts (torch 2.13).
        cause = error.__context__ if isinstance(error, RuntimeError) else error
        if isinstance(cause, OptionError) or not isinstance(cause, OSError | ValueError):
            raise
        reason = cause.strerror if isinstance(cause, OSError) else cause
        raise OptionError(f"{path} cannot be written ({reason}): name another folder.") from error


def _refuse_device(path: Path) -> None:
    # A device would be replaced by the file, a folder cannot be.
    if path.exists() and not path.is_file():
        raise OptionError(f"{path} cannot be written (it is no file): name another one.")


def _flush_folder(folder: Path) -> None:
    """Make a rename in ``folder`` outlast a power cut, where folders can be flushed: not on Windows, nor everywhere else."""
    if os.name != "posix":
        return
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
