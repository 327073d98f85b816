"""Outputs of frozen layers, row by row, found again by a key of the example that they are of."""

from __future__ import annotations

import errno
import logging
import math
import mmap
import os
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

_MOST_CHUNKS = 128
# A key, its entry in the index, and its place: 123 to 141 measured with CPython 3.11, and more while the index grows.
_BYTES_PER_KEY = 192
_ALIGNMENT = 64
_ZEROS = bytes(1024**2)


class PrefixCache:
    """Keeps rows of tensors by key: of each example a fixed number of rows, whose shapes and types the first insert fixes.

    Rows lie in memory, or with a ``directory``, made if need be, in a file there without a name: it is gone when the
    process is. Growth ends where ``limit_bytes`` (rows and their keys; a page more for every chunk of a file), memory or
    the disk ends; what is kept stays of use. Space is reserved in chunks, each of ``chunk_bytes``, or of more where the
    limit would need too many, or of one example. Not for several threads at once.

    Units: ``num_bytes`` is what is reserved. ``hits`` and ``misses`` count the examples that ``missing`` was asked about.
    """

    def __init__(
        self, *, limit_bytes: int, directory: Path | None = None, chunk_bytes: int = 64 * 1024**2
    ) -> None:
        self.limit_bytes = limit_bytes
        # Every mapping holds a file descriptor, of which a process may have 1024 at first.
        self._chunk_bytes = max(chunk_bytes, limit_bytes // _MOST_CHUNKS)
        self.hits = 0
        self.misses = 0
        self._directory = directory
        self._has_warned = False
        self.clear()

    def __len__(self) -> int:
        return len(self._places)

    def clear(self) -> None:
        """Forget all rows and their layout; give memory and disk back, as far as no tensor of ``fetch`` still needs them."""
        self.num_bytes = 0
        self._places: dict[bytes, int] = {}
        self._layout: _Layout | None = None
        self._chunks: list[_Chunk] = []
        self._capacity = 0
        self.is_full = False
        # Without a name from the beginning, or from right after it: nothing has to be cleaned up after a killed process.
        self._file: _File | None = None

    def missing(self, keys: Sequence[bytes]) -> list[int]:
        """Return the positions, rising, of the keys that are not held; of equal ones all."""
        missing = [position for position, key in enumerate(keys) if key not in self._places]
        self.misses += len(missing)
        self.hits += len(keys) - len(missing)
        return missing

    def fetch(self, keys: Sequence[bytes]) -> list[Tensor]:
        """Return the rows of ``keys``, which are all held, stacked; on the CPU.

        The tensors may be views of what is kept: nobody may write into them. Later inserts change neither them nor what
        autograd takes for their version.
        Shapes: (len(keys), *row_shape) each, in the order of the insert.
        Raises: KeyError if a key is not held: ask ``missing`` before.
        """
        assert self._layout is not None, "fetch from an empty cache"
        assert keys, "fetch of nothing"
        runs = list(_runs([self._places[key] for key in keys], self._layout.rows_per_chunk))
        if len(runs) == 1:
            chunk, start, stop = runs[0]
            return [rows[start:stop] for rows in self._chunks[chunk].rows]
        return [
            torch.cat([self._chunks[chunk].rows[index][start:stop] for chunk, start, stop in runs])
            for index in range(len(self._layout.shapes))
        ]

    def holds_such(self, rows: Sequence[Tensor]) -> bool:
        """Return whether ``rows`` are of the shapes and types that are kept; whatever they are, if nothing is kept yet."""
        return self._layout is None or _Layout.of(rows, chunk_bytes=self._chunk_bytes) == self._layout

    def insert(self, keys: Sequence[bytes], rows: Sequence[Tensor]) -> bool:
        """Keep a copy of ``rows``, on whatever device they are; return whether all of ``keys`` are held now.

        Keys that are held already stay as they are. As many as still fit are kept, and none if the layout is another one.
        Shapes: the first dimension of every tensor is len(keys).
        """
        assert rows, "rows of nothing"
        if any(tensor.dim() == 0 or len(tensor) != len(keys) for tensor in rows):
            return False
        layout = _Layout.of(rows, chunk_bytes=self._chunk_bytes)
        if self._layout is not None and layout != self._layout:
            return False
        first: dict[bytes, int] = {}
        for position, key in enumerate(keys):
            if key not in self._places:
                first.setdefault(key, position)
        if not first:
            return True
        room = self._room_for(len(first), layout)
        taken = dict(list(first.items())[:room])
        if taken:
            self._write(list(taken), list(taken.values()), rows)
        return len(taken) == len(first)

    def _write(self, keys: Sequence[bytes], positions: Sequence[int], rows: Sequence[Tensor]) -> None:
        assert self._layout is not None
        if len(positions) < len(rows[0]):
            rows = [tensor[list(positions)] for tensor in rows]
        begin = len(self._places)
        done = 0
        for chunk, start, stop in _runs(range(begin, begin + len(keys)), self._layout.rows_per_chunk):
            for kept, tensor in zip(self._chunks[chunk].writable, rows, strict=True):
                kept[start:stop].copy_(tensor.detach()[done : done + stop - start])
            done += stop - start
        # Last: what is in the index has been written.
        self._places.update((key, begin + offset) for offset, key in enumerate(keys))

    def _room_for(self, num_rows: int, layout: _Layout) -> int:
        """Make room for more rows, as far as it can be had; return for how many there is."""
        while self._capacity - len(self._places) < num_rows and not self.is_full:
            # All chunks but the last are of the same size: a row's place is its chunk and its place in it.
            possible = min(layout.rows_per_chunk, (self.limit_bytes - self.num_bytes) // layout.cost)
            try:
                chunk = self._new_chunk(possible, layout) if possible > 0 else None
            except (OSError, RuntimeError, MemoryError) as error:
                chunk = None
                self._warn(error)
            self.is_full = chunk is None or possible < layout.rows_per_chunk
            if chunk is not None:
                self._layout = layout
                self._chunks.append(chunk)
                self._capacity += possible
                self.num_bytes += possible * layout.cost
        return min(num_rows, self._capacity - len(self._places))

    def _new_chunk(self, num_rows: int, layout: _Layout) -> _Chunk:
        # Tensors made in inference mode could never be trained behind, and scoring may well run in it.
        with torch.inference_mode(mode=False):
            if self._directory is None:
                return _Chunk.of([layout.empty(index, num_rows) for index in range(len(layout.shapes))])
            if self._file is None:
                self._file = _File(self._directory)
            offsets, num_bytes = layout.offsets(num_rows)
            buffer = self._file.grow(num_bytes)
            return _Chunk.of(
                [layout.view(buffer, index, num_rows, offset) for index, offset in enumerate(offsets)]
            )

    def _warn(self, error: Exception) -> None:
        if not self._has_warned:
            where = "memory" if self._directory is None else str(self._directory)
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error).split("\n")[0]
            logger.warning(
                "no more than %d examples' frozen outputs are kept in %s: %s", self._capacity, where, reason
            )
            self._has_warned = True


def _runs(places: Sequence[int], rows_per_chunk: int) -> Iterator[tuple[int, int, int]]:
    """Yield (chunk, start, stop) for every stretch of places that follow each other in one chunk."""
    begin = end = places[0]
    for place in [*places[1:], None]:
        end += 1
        if place != end or end % rows_per_chunk == 0:
            chunk, start = divmod(begin, rows_per_chunk)
            yield chunk, start, start + end - begin
            if place is not None:
                begin = end = place


@dataclass(frozen=True, slots=True)
class _Layout:
    """What one example's rows look like, and how many examples make a chunk."""

    shapes: tuple[torch.Size, ...]
    dtypes: tuple[torch.dtype, ...]
    cost: int
    """Bytes of an example's rows and its key."""
    rows_per_chunk: int
    orders: tuple[tuple[int, ...], ...] = field(compare=False)
    """Of each tensor's row: its dimensions as they lie in memory. Behind rows that lie otherwise sums are rounded so."""

    @classmethod
    def of(cls, rows: Sequence[Tensor], *, chunk_bytes: int) -> _Layout:
        shapes = tuple(tensor.shape[1:] for tensor in rows)
        cost = _BYTES_PER_KEY + sum(math.prod(tensor.shape[1:]) * tensor.element_size() for tensor in rows)
        dtypes = tuple(tensor.dtype for tensor in rows)
        orders = tuple(_order_in_memory(tensor) for tensor in rows)
        return cls(shapes, dtypes, cost, max(1, chunk_bytes // cost), orders)

    def empty(self, index: int, num_rows: int) -> Tensor:
        numbers = torch.empty(num_rows * math.prod(self.shapes[index]), dtype=self.dtypes[index], device="cpu")
        return self._ordered(numbers, index, num_rows)

    def view(self, buffer: Tensor, index: int, num_rows: int, offset: int) -> Tensor:
        part = buffer[offset : offset + self._bytes_of(index, num_rows)]
        return self._ordered(part.view(self.dtypes[index]), index, num_rows)

    def _ordered(self, numbers: Tensor, index: int, num_rows: int) -> Tensor:
        """Return rows in the memory of ``numbers``, as they lay when they were computed."""
        shape, order = self.shapes[index], self.orders[index]
        lying = numbers.view(num_rows, *(shape[dimension] for dimension in order))
        return lying.permute(0, *(1 + order.index(dimension) for dimension in range(len(shape))))

    def offsets(self, num_rows: int) -> tuple[list[int], int]:
        """Return where in a buffer each tensor of that many rows begins, and the bytes of all."""
        offsets, end = [], 0
        for index in range(len(self.shapes)):
            offsets.append(end)
            end += -(-self._bytes_of(index, num_rows) // _ALIGNMENT) * _ALIGNMENT
        return offsets, end

    def _bytes_of(self, index: int, num_rows: int) -> int:
        return num_rows * math.prod(self.shapes[index]) * self.dtypes[index].itemsize


def _order_in_memory(rows: Tensor) -> tuple[int, ...]:
    """Return the dimensions of a row, those that are farthest apart in memory first."""
    strides = rows.stride()[1:]
    return tuple(sorted(range(len(strides)), key=lambda dimension: (-strides[dimension], dimension)))


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Tensors of rows: to read, and the same memory to write."""

    rows: list[Tensor]
    writable: list[Tensor]

    @classmethod
    def of(cls, rows: list[Tensor]) -> _Chunk:
        # ``data`` counts versions for itself: written through ``rows``, a new row would look to autograd, and to whoever
        # compares versions, as if every view that was handed out had been changed.
        return cls(rows, [tensor.data for tensor in rows])


class _File:
    """A file without a name that grows by parts mapped into memory, each with its space on the disk reserved."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        # Unbuffered: what did not fit must not be tried again on closing.
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115 (the cache's own span)
        weakref.finalize(self, self._file.close)
        self._size = 0

    def grow(self, num_bytes: int) -> Tensor:
        """Return the bytes of another part, which live as long as tensors on them.

        Raises: OSError if there is no space; the file is as it was then.
        """
        # Parts begin where mappings can. Mapping nothing would map the whole file.
        size = max(1, -(-num_bytes // mmap.ALLOCATIONGRANULARITY)) * mmap.ALLOCATIONGRANULARITY
        try:
            # Written to without its space reserved, a mapped file on a full disk kills the process (SIGBUS).
            self._reserve(size)
            mapped = mmap.mmap(self._file.fileno(), size, offset=self._size)
        except (OSError, ValueError):
            self._file.truncate(self._size)
            raise
        self._size += size
        return torch.frombuffer(mapped, dtype=torch.uint8)

    def _reserve(self, num_bytes: int) -> None:
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(self._file.fileno(), self._size, num_bytes)
            except OSError as error:
                # File systems that cannot reserve say so with these.
                if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
                    raise
            else:
                return
        self._file.seek(self._size)
        left = num_bytes
        while left > 0:
            left -= self._file.write(_ZEROS[:left])
