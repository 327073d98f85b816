"""A file system of fsspec's in memory that can be told to refuse, break off, and rename as SMB does."""

from __future__ import annotations

from typing import Any, ClassVar

from fsspec.implementations.memory import MemoryFileSystem


class Troubled(MemoryFileSystem):  # type: ignore[misc]
    """What it refuses, it refuses with the URL that it was given, the password in it."""

    protocol = "troubled"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    refused: ClassVar[set[str]] = set()
    """Any of put, half (of a file is put), get, ls, rm, mv (to a name that is there)."""
    puts: ClassVar[list[str]] = []

    @classmethod
    def reset(cls) -> None:
        cls.store.clear()
        cls.pseudo_dirs[:] = [""]
        cls.refused.clear()
        cls.puts.clear()

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return super()._strip_protocol(f"{path}".removeprefix("troubled://").rpartition("@")[2])

    def _ask(self, what: str) -> None:
        if what in self.refused:
            raise PermissionError(13, f"Denied\nto me:hunter2-pass@host: {what}")

    def put_file(self, lpath: str, rpath: str, **options: Any) -> None:
        self._ask("put")
        self.puts.append(rpath)
        if "half" in self.refused:
            self.pipe_file(rpath, b"half")
        self._ask("half")
        super().put_file(lpath, rpath, **options)

    def get_file(self, rpath: str, lpath: str, **options: Any) -> None:
        self._ask("get")
        super().get_file(rpath, lpath, **options)

    def ls(self, path: str, detail: bool = True, **options: Any) -> Any:
        self._ask("ls")
        return super().ls(path, detail=detail, **options)

    def _rm(self, path: str) -> None:
        self._ask("rm")
        super()._rm(path)

    def rm_file(self, path: str) -> None:
        self._ask("rm")
        super()._rm(path)

    def mv(self, path1: str, path2: str, **options: Any) -> None:
        if "mv" in self.refused and self.exists(path2):
            raise FileExistsError(path2)
        self.store[self._strip_protocol(path2)] = self.store.pop(self._strip_protocol(path1))
