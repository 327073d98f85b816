"""A folder behind a URL, in an object store or on another machine: whatever fsspec reaches."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from frostline.errors import FolderError, OptionError
from frostline.folders.waiting import SECONDS_WITHOUT_A_BYTE, answered, copied
from frostline.inputs.credentials import Secrets, without_password
from frostline.inputs.printable import one_line

# An object of theirs is there whole or not at all, however it is put: s3fs 2026.9, gcsfs 2026.10, adlfs 2026.8, by their
# code. Everywhere else a file is seen while it grows, so that it takes its name when it is whole. With each, what its put
# takes besides: s3fs has ten parts of 50 MiB under way unless told otherwise, and each of them in memory twice.
_FEW_PARTS = {"max_concurrency": 2}
_PUT_WHOLE: Mapping[str, Mapping[str, int]] = {
    **dict.fromkeys(("s3", "s3a", "abfs", "abfss", "az"), _FEW_PARTS),
    "gs": {},
    "gcs": {},
}

# Of folders for files of one process, and of a file that only asks whether one can be written.
_OURS = "frostline-"

_LONGEST_REASON = 300


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class RemoteFolder:
    """See ``Folder``. A file is written, and read, in this machine's folder of temporary files (``TMPDIR``), and copied.

    So memory never holds more of it than the parts under way, and the place needs to be able to do no more than that.
    Raises: FolderError, which is an OSError, for whatever fsspec's libraries raise, without what is secret in the URL.
    """

    url: str

    def __str__(self) -> str:
        """The URL without a password."""
        return without_password(self.url)

    def __repr__(self) -> str:
        """The URL without a password."""
        return f"RemoteFolder(url={without_password(self.url)!r})"

    @property
    def protocol(self) -> str:
        """What comes before "://"."""
        return self.url.partition("://")[0]

    @property
    def name(self) -> str:
        """See ``Folder``."""
        return self.url.rpartition("/")[2]

    @property
    def parent(self) -> RemoteFolder:
        """See ``Folder``."""
        return RemoteFolder(url=self.url.rpartition("/")[0])

    def below(self, name: str) -> RemoteFolder:
        """See ``Folder``."""
        return RemoteFolder(url=f"{self.url}/{name}")

    def place_of(self, name: str) -> str:
        """See ``Folder``."""
        return f"{self}/{name}"

    def check(self) -> None:
        """See ``Folder``: a file of a few bytes is written and deleted."""
        name = f".{_OURS}{uuid4().hex[:12]}"
        try:
            with self.new_file(prefix=name) as new:
                new.file.write(b"frostline asks whether it can write here")
                new.named(name)
            self.delete(name)
        except OSError as error:
            raise OptionError(f"{error}: name another folder (--runs), or mend that.") from None

    def exists(self) -> bool:
        """See ``Folder``."""
        return bool(self._entries())

    def names(self, prefix: str = "") -> list[str]:
        """See ``Folder``."""
        entries = self._entries()
        return sorted(name for name, kind in entries if kind != "directory" and name.startswith(prefix))

    def folders(self) -> list[str]:
        """See ``Folder``."""
        return sorted(name for name, kind in self._entries() if kind == "directory")

    @contextmanager
    def new_file(self, *, prefix: str) -> Iterator[_Staged]:
        """See ``Folder``."""
        # Under a name of the machine's own: some libraries write, and all of fsspec's copy, by name.
        with (
            tempfile.TemporaryDirectory(prefix=_OURS) as folder,
            (Path(folder) / "new").open("x+b") as file,
        ):
            yield _Staged(file=file, folder=self, prefix=prefix)

    @contextmanager
    def fetched(self, name: str) -> Iterator[Path]:
        """See ``Folder``."""
        with tempfile.TemporaryDirectory(prefix=_OURS) as folder:
            copy = Path(folder) / "copy"
            with self._errors(f"{name} cannot be read from"):
                filesystem, place = self._filesystem()
                copied(filesystem.get_file, f"{place}/{name}", f"{copy}")
            yield copy

    def delete(self, name: str) -> None:
        """See ``Folder``."""
        with self._errors(f"{name} cannot be deleted from"), suppress(FileNotFoundError):
            filesystem, place = self._filesystem()
            answered(lambda: filesystem.rm_file(f"{place}/{name}"))

    def clear(self) -> None:
        """See ``Folder``."""
        with self._errors("nothing can be deleted from"), suppress(FileNotFoundError):
            filesystem, place = self._filesystem()
            answered(lambda: filesystem.rm(place, recursive=True), seconds=SECONDS_WITHOUT_A_BYTE)

    def put(self, file: Path, name: str, *, prefix: str) -> None:
        """Copy a file of this machine to the name ``name``, in one piece. Raises: FolderError."""
        with self._errors("nothing can be written to"):
            filesystem, place = self._filesystem()
            if self.protocol in _PUT_WHOLE:
                copied(filesystem.put_file, f"{file}", f"{place}/{name}", **_PUT_WHOLE[self.protocol])
                return
            answered(lambda: filesystem.makedirs(place, exist_ok=True))
            partial = f"{place}/{prefix}.{uuid4().hex[:12]}.partial"
            try:
                copied(filesystem.put_file, f"{file}", partial)
                answered(lambda: _rename(filesystem, partial, f"{place}/{name}"))
            except BaseException:
                with suppress(Exception):
                    answered(lambda: filesystem.rm_file(partial))
                raise

    def _entries(self) -> list[tuple[str, str]]:
        """Return the name and the kind of whatever is in it, as it is now: other processes write there too."""
        with self._errors("nothing can be read from"), suppress(FileNotFoundError):
            filesystem, place = self._filesystem()
            filesystem.invalidate_cache(place)
            own = place.rstrip("/")
            listed = answered(lambda: filesystem.ls(place, detail=True))
            entries = [(f"{entry['name']}".rstrip("/"), entry["type"]) for entry in listed]
            # Some stores have an empty object in place of a folder; and a file is listed as what is in it.
            return [(path.rpartition("/")[2], kind) for path, kind in entries if not own.endswith(path)]
        return []

    def _filesystem(self) -> tuple[Any, str]:
        """Return what fsspec reaches the place by, and what the place is called there. It keeps its connections."""
        return importlib.import_module("fsspec.core").url_to_fs(self.url)  # type: ignore[no-any-return]

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # botocore's, aiohttp's, paramiko's and so on have no other parent
            # A connection that broke would be used again.
            with suppress(Exception):
                type(self._filesystem()[0]).clear_instance_cache()
            reason = Secrets(self.url).hidden_in(one_line(f"{error}"))[:_LONGEST_REASON].rstrip(".")
            # Not ``from error``: what is secret would be shown with it.
            raise FolderError(f"{what} {self} ({reason or type(error).__name__})") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Staged:
    """See ``NewFile``."""

    file: IO[bytes]
    folder: RemoteFolder
    prefix: str

    def named(self, name: str) -> None:
        self.file.close()
        self.folder.put(Path(self.file.name), name, prefix=self.prefix)


def _rename(filesystem: Any, source: str, target: str) -> None:
    """Give a file another name, in place of what was there, where that is one step or not."""
    try:
        filesystem.mv(source, target)
    except Exception:
        # SMB and WebHDFS rename to no name that is there.
        if not filesystem.exists(target):
            raise
        filesystem.rm_file(target)
        filesystem.mv(source, target)
