"""Weights that a task's model starts from: which tensors a checkpoint holds, read one at a time, never as a pickle."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import math
import os
import pickle
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from frostline.errors import ModelError
from frostline.training.files.model_files import SUFFIX

_INDEX = "model.safetensors.index.json"
_WHOLE = "model.safetensors"
# Pages that were read stay in the process's memory as long as their file is open, a checkpoint's size beside the model.
_MOST_ELEMENTS = 2**24


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainedWeights:
    """A file or folder with a model's weights: which tensors of which shapes, and what tells it from any other.

    No tensor is in memory before it is read, and none after it was put where it belongs.
    """

    path: Path
    files: Mapping[Path, tuple[int, int]]
    """Each file's size and time of change: one that was written since is refused."""
    shapes: Mapping[str, tuple[int, ...]]
    places: Mapping[str, Path]
    sha256: str

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> PretrainedWeights:
        """Return the checkpoint at ``path``, read through for its hash: once in a process, as long as no file changes.

        It is a safetensors file, a folder written by ``save_pretrained``, or a file with a state dict, of which nothing but
        tensors is ever loaded.
        Raises: ModelError if there is no such thing, or it is damaged, truncated or something else.
        """
        path = Path(path)
        return _read_through(path, tuple((file, _stamp(file)) for file in _files_of(path)))

    def tensors(self, names: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
        """Yield some tensors over their files, to be copied at once, by their names.

        Raises: ModelError if a file was changed since the checkpoint was opened.
        """
        by_file: dict[Path, list[str]] = {}
        for name in names:
            by_file.setdefault(self.places[name], []).append(name)
        for file, held_names in by_file.items():
            if _stamp(file) != self.files[file]:
                raise ModelError(f"{file} was changed since this task was made: make the task anew.")
            for piece in self._pieces(held_names):
                with _read(file) as held:
                    for name in piece:
                        yield name, held.tensor(name)

    def _pieces(self, names: Iterable[str]) -> Iterator[list[str]]:
        """Yield the names of tensors of one file that may be in memory at once beside the model."""
        piece: list[str] = []
        elements = 0
        for name in names:
            size = math.prod(self.shapes[name])
            if piece and elements + size > _MOST_ELEMENTS:
                yield piece
                piece, elements = [], 0
            piece.append(name)
            elements += size
        if piece:
            yield piece


# A task is made several times, with other options or another space, and each reads its checkpoint: gigabytes, for seconds.
@functools.lru_cache(maxsize=4)
def _read_through(path: Path, stamps: tuple[tuple[Path, tuple[int, int]], ...]) -> PretrainedWeights:
    shapes: dict[str, tuple[int, ...]] = {}
    places: dict[str, Path] = {}
    digest = hashlib.sha256()
    for file, _ in stamps:
        with _read(file) as held:
            for name in held.names:
                shapes[name], places[name] = held.shape(name), file
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    if not shapes:
        raise ModelError(f"{path} holds no tensors: give a checkpoint with a model's weights.")
    return PretrainedWeights(
        path=path, files=dict(stamps), shapes=shapes, places=places, sha256=digest.hexdigest()
    )


class _SafetensorsFile:
    """The tensors of an open safetensors file."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.names = list(file.keys())

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor."""
        return tuple(self._file.get_slice(name).get_shape())

    def tensor(self, name: str) -> Tensor:
        """Return a tensor over the file."""
        tensor: Tensor = self._file.get_tensor(name)
        return tensor


class _StateDict:
    """The tensors of a state dict."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors
        self.names = list(tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor."""
        return tuple(self._tensors[name].shape)

    def tensor(self, name: str) -> Tensor:
        """Return a tensor over the file."""
        return self._tensors[name]


def _files_of(path: Path) -> list[Path]:
    """Return the files that hold a checkpoint's tensors."""
    if not path.exists():
        raise ModelError(
            f"there is no checkpoint at {path}: give a {SUFFIX} file, a folder written by save_pretrained, or a file "
            f"with a state dict."
        )
    if not path.is_dir():
        return [path]
    if (path / _WHOLE).is_file():
        return [path / _WHOLE]
    if not (path / _INDEX).is_file():
        raise ModelError(f"{path} holds no {_WHOLE}: give a folder written by save_pretrained.")
    try:
        names = sorted(set(json.loads((path / _INDEX).read_text())["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ModelError(f"{path / _INDEX} is no index of safetensors files: copy the folder anew.") from error
    files = [path / str(name) for name in names]
    for file in files:
        # Names of an index that somebody else wrote: they lead nowhere else.
        if file.parent != path or not file.is_file():
            raise ModelError(f"{path} lacks {file.name}, which its index names: copy the folder anew.")
    return files


@contextlib.contextmanager
def _read(file: Path) -> Iterator[_SafetensorsFile | _StateDict]:
    """Open one file of tensors."""
    if file.suffix == SUFFIX:
        try:
            opened = safe_open(file, framework="pt")
        except (OSError, SafetensorError) as error:
            raise ModelError(
                f"{file} cannot be read as safetensors: {_line(error)}. It is damaged, truncated or something else."
            ) from error
        with opened as held:
            yield _SafetensorsFile(held)
        return
    yield _StateDict(_state_dict(file))


def _state_dict(file: Path) -> Mapping[str, Tensor]:
    try:
        state = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    # What torch raises of a file that is none of its own is of many kinds.
    except (
        OSError,
        RuntimeError,
        ValueError,
        EOFError,
        KeyError,
        AttributeError,
        pickle.UnpicklingError,
    ) as error:
        raise ModelError(
            f"{file} cannot be read as a state dict of tensors alone: {_line(error)[:120]}. Give a {SUFFIX} file, or what "
            f"torch.save(model.state_dict(), file) wrote."
        ) from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelError(f"{file} holds more than a model's tensors by name: save model.state_dict() alone.")
    return state


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()).removesuffix(".")


def _stamp(file: Path) -> tuple[int, int]:
    stat = file.stat()
    return stat.st_size, stat.st_mtime_ns
