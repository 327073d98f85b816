"""Weights in a memory-mapped safetensors file: written one at a time, checked when it is opened, read page by page.

Every tensor of the file is a real tensor over the mapping, so all that takes a tensor takes it; the pages it was read
through can be let go, and come back from the file when it is read again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import mmap
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from frostline.atomic import UnnamedFile
from frostline.errors import ModelError
from frostline.sizes import format_size

Plan = Mapping[str, tuple[tuple[int, ...], torch.dtype]]
"""The shape and type of every weight that a file is to hold, by name, in the order of their use."""

DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""The types that a file can hold, by their names in the format."""

_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_CONTENT = "content_sha256"
_CHUNK_BYTES = 16 * 2**20
_READAHEAD_BYTES = 128 * 2**10


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """Where a weight lies: ``begin`` and ``end`` are bytes of the file."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    begin: int
    end: int


class WeightFile:
    """An open file of weights. A copy is the same file; one that was pickled holds no weights any more.

    A file with a path is never written to: what is copied into its tensors stays in memory. One without is this
    process's own, and holds what is copied into them.
    """

    def __init__(self, file: IO[bytes], *, path: Path | None) -> None:
        self.path = path
        self.entries, self.metadata = _read_header(file)
        access = mmap.ACCESS_WRITE if path is None else mmap.ACCESS_COPY
        self._map: mmap.mmap | None = mmap.mmap(file.fileno(), 0, access=access)
        self._address = torch.frombuffer(self._map, dtype=torch.uint8, count=1).data_ptr()

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> WeightFile:
        """Open a file that a ``WeightFileWriter`` wrote, and read it through once to see that it is whole.

        Raises: ModelError if there is no such file, or it is truncated, damaged or not such a file.
        """
        path = Path(path)
        try:
            # Mapping a truncated file is no error, but reading it kills the process: the format's own reader looks first.
            with safe_open(path, framework="pt"):
                pass
            file = path.open("rb")
        except (OSError, SafetensorError) as error:
            raise ModelError(
                f"{path} cannot be opened as a safetensors file: {error}. Delete it to have it written anew."
            ) from error
        with file:
            entries, metadata = _read_header(file)
            digests = {name: _digest_of(file, entry) for name, entry in entries.items()}
            content = _content_hash({name: (e.shape, e.dtype) for name, e in entries.items()}, digests)
            if metadata.get(_CONTENT) != content:
                was_ours = _CONTENT in metadata
                reason = "is damaged" if was_ours else "was not written by frostline"
                raise ModelError(
                    f"{path} {reason}: its content has the hash {content[:16]}, and it says "
                    f"{metadata.get(_CONTENT, 'nothing')[:16]}. Delete it to have it written anew."
                )
            return cls(file, path=path)

    @property
    def content_hash(self) -> str:
        """The SHA-256 of names, shapes, types and values."""
        return self.metadata[_CONTENT]

    @property
    def plan(self) -> Plan:
        """The shape and type of every weight."""
        return {name: (entry.shape, entry.dtype) for name, entry in self.entries.items()}

    def tensor(self, name: str) -> Tensor:
        """Return a weight: a tensor over the mapping, which reads the file when it is read.

        Raises: KeyError if the file does not hold it.
        """
        assert self._map is not None, "a weight file that was pickled holds no weights"
        entry = self.entries[name]
        if entry.begin == entry.end:
            return torch.empty(entry.shape, dtype=entry.dtype, device="cpu")
        count = math.prod(entry.shape)
        flat = torch.frombuffer(self._map, dtype=entry.dtype, count=count, offset=entry.begin)
        return flat.view(entry.shape)

    def will_need(self, tensors: Iterable[Tensor]) -> None:
        """Let the system read weights from the disk meanwhile."""
        for begin, end in self._ranges(tensors):
            # One call reads no more than the device's readahead: the system cuts the rest off in silence.
            for start in range(begin, end, _READAHEAD_BYTES):
                self._advise("MADV_WILLNEED", start, min(end, start + _READAHEAD_BYTES))

    def let_go(self, tensors: Iterable[Tensor]) -> None:
        """Take the pages of weights out of the process's memory; they come back when they are read."""
        for begin, end in self._ranges(tensors):
            self._advise("MADV_DONTNEED", begin, end)

    def _advise(self, advice: str, begin: int, end: int) -> None:
        # Not on every system: without it pages go when the system wants their memory.
        if self._map is not None and hasattr(mmap, advice):
            start = begin - begin % mmap.PAGESIZE
            self._map.madvise(getattr(mmap, advice), start, end - start)

    def _ranges(self, tensors: Iterable[Tensor]) -> list[tuple[int, int]]:
        """Return the bytes of the file under ``tensors``, neighbours joined."""
        if self._map is None:
            return []
        ranges: list[tuple[int, int]] = []
        for tensor in sorted(tensors, key=Tensor.data_ptr):
            begin = tensor.data_ptr() - self._address
            if not 0 <= begin < len(self._map):
                continue
            end = begin + tensor.nbytes
            if ranges and ranges[-1][1] == begin:
                ranges[-1] = (ranges[-1][0], end)
            else:
                ranges.append((begin, end))
        return ranges

    def __deepcopy__(self, memo: dict[int, Any]) -> WeightFile:
        return self

    def __getstate__(self) -> dict[str, Any]:
        # The mapping is never closed by hand: tensors over it may live on, in a graph or in a user's hands.
        return {**self.__dict__, "_map": None, "_address": 0}


class WeightFileWriter:
    """Writes a file of weights, one at a time, in any order; ``finish`` returns it, opened.

    Without a ``path`` the file has no name and lies in the temporary folder (TMPDIR); it goes when nobody holds its tensors.
    With one, it gets its name when it is finished: a process that is killed leaves no half file under it. Leaving the
    context without ``finish`` leaves nothing. ``metadata`` may name the layers, as ``stack``.

    Raises: ModelError if the disk has no room or cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str] | None, plan: Plan, metadata: Mapping[str, str]) -> None:
        self.path = None if path is None else Path(path)
        # Wide types first, so that every weight begins at a multiple of its element's size.
        self.plan = dict(sorted(plan.items(), key=lambda item: -item[1][1].itemsize))
        self._metadata = {**metadata, "format": "pt"}
        self._digests: dict[str, str] = {}
        self._file: IO[bytes] | None = None
        self._unnamed: UnnamedFile | None = None
        self._begins: dict[str, int] = {}

    def __enter__(self) -> WeightFileWriter:
        header, self._begins, size = self._layout("0" * 64)
        with self._cleared_on_error():
            if self.path is None:
                self._file = tempfile.TemporaryFile()
            else:
                self._unnamed = UnnamedFile(self.path.parent, prefix=f".{self.path.name}")
                self._file = self._unnamed.file
            # All room is taken at once: a full disk shows now, and not as a signal when a page is written.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self._file.fileno(), 0, size)
            else:
                self._file.truncate(size)
            self._file.write(header)
        return self

    def write(self, name: str, tensor: Tensor) -> None:
        """Write a weight, rounded to its planned type.

        Raises: ModelError if it is not planned, of another shape, or the disk cannot be written.
        """
        assert self._file is not None, "write inside the context"
        if name not in self.plan or tuple(tensor.shape) != self.plan[name][0]:
            planned = f"planned with shape {self.plan[name][0]}" if name in self.plan else "not planned"
            raise ModelError(f"the weight {name} of shape {tuple(tensor.shape)} is {planned} in this file.")
        with self._cleared_on_error():
            self._file.seek(self._begins[name])
            self._digests[name] = _each_chunk(tensor, self.plan[name][1], self._file.write)

    def finish(self) -> WeightFile:
        """Name the file and return it, opened.

        Raises: ModelError if a planned weight was not written, or the disk cannot be written.
        """
        assert self._file is not None, "finish inside the context"
        missing = [name for name in self.plan if name not in self._digests]
        if missing:
            raise ModelError(
                f"{len(missing)} weights were not written, {missing[0]} first: write all that are planned."
            )
        header, _, _ = self._layout(_content_hash(self.plan, self._digests))
        with self._cleared_on_error():
            self._file.seek(0)
            self._file.write(header)
            self._file.flush()
            weights = WeightFile(self._file, path=self.path)
            if self.path is not None and self._unnamed is not None:
                self._unnamed.named(self.path)
            return weights

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._clear()

    def _clear(self) -> None:
        if self._unnamed is not None:
            self._unnamed.discard()
        elif self._file is not None:
            # What could not be written is tried again by close, and fails again.
            with contextlib.suppress(OSError):
                self._file.close()
        self._file = self._unnamed = None

    @contextlib.contextmanager
    def _cleared_on_error(self) -> Any:
        try:
            yield
        except OSError as error:
            self._clear()
            folder = Path(tempfile.gettempdir()) if self.path is None else self.path.parent
            size = sum(math.prod(shape) * dtype.itemsize for shape, dtype in self.plan.values())
            raise ModelError(
                f"{folder} cannot take {format_size(size)} of frozen weights: {error.strerror or error}. Make room there, "
                f"or choose another place with frozen_file or TMPDIR."
            ) from error

    def _layout(self, content: str) -> tuple[bytes, dict[str, int], int]:
        """Return the header, where each weight begins, and the size of the file, in bytes."""
        header: dict[str, Any] = {"__metadata__": {**self._metadata, _CONTENT: content}}
        end = 0
        begins = {}
        for name, (shape, dtype) in self.plan.items():
            begins[name], end = end, end + math.prod(shape) * dtype.itemsize
            header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [begins[name], end]}
        text = json.dumps(header).encode()
        # The weights begin on a page of their own: the format allows blanks behind the header.
        text += b" " * (-(8 + len(text)) % mmap.PAGESIZE)
        start = 8 + len(text)
        moved = {name: start + begin for name, begin in begins.items()}
        return len(text).to_bytes(8, "little") + text, moved, start + end


def content_hash(weights: Mapping[str, Tensor], plan: Plan) -> str:
    """Return the hash that a file with these weights, rounded to their planned types, would have."""
    digests = {name: _each_chunk(weights[name], dtype, lambda _: None) for name, (_, dtype) in plan.items()}
    return _content_hash(plan, digests)


def _content_hash(plan: Plan, digests: Mapping[str, str]) -> str:
    digest = hashlib.sha256()
    for name, (shape, dtype) in sorted(plan.items()):
        digest.update(f"{name} {shape} {_NAMES[dtype]} {digests[name]}\n".encode())
    return digest.hexdigest()


def _each_chunk(tensor: Tensor, dtype: torch.dtype, take: Callable[[Any], object]) -> str:
    """Hand the bytes of a tensor on, and return their hash; no second copy of the whole is made."""
    digest = hashlib.sha256()
    flat = tensor.detach().reshape(-1)
    for part in flat.split(_CHUNK_BYTES // dtype.itemsize):  # type: ignore[no-untyped-call]
        chunk = part.to(device="cpu", dtype=dtype).contiguous().view(torch.uint8).numpy()
        digest.update(chunk)
        take(chunk)
    return digest.hexdigest()


def _digest_of(file: IO[bytes], entry: _Entry) -> str:
    digest = hashlib.sha256()
    file.seek(entry.begin)
    left = entry.end - entry.begin
    while left:
        chunk = file.read(min(left, _CHUNK_BYTES))
        digest.update(chunk)
        left -= len(chunk)
    return digest.hexdigest()


def _read_header(file: IO[bytes]) -> tuple[dict[str, _Entry], dict[str, str]]:
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    header = json.loads(file.read(length))
    metadata: dict[str, str] = header.pop("__metadata__", {})
    entries = {}
    for name, entry in header.items():
        if entry["dtype"] not in DTYPES:
            raise ModelError(f"{name} is of type {entry['dtype']}, but frozen weights are {', '.join(DTYPES)}.")
        begin, end = entry["data_offsets"]
        entries[name] = _Entry(
            shape=tuple(entry["shape"]),
            dtype=DTYPES[entry["dtype"]],
            begin=8 + length + begin,
            end=8 + length + end,
        )
    return entries, metadata
