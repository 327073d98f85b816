"""Token sequences as data sets: windows of the context's length, each with the tokens that follow."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from frostline.errors import OptionError, TaskError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from frostline.tasks.data.tokenization import Tokens

_PIECE = 1 << 24  # tokens read at once when they are checked

_VALIDATION_ONE_IN = 20


class TokenWindows(Dataset[tuple[Tensor, Tensor]]):
    """Windows of ``context_length`` tokens, side by side or, given ``num_windows``, spread over the sequence.

    An item is (inputs, targets), both int64 of shape (context_length,), the targets one token further. Nothing is
    copied before it is asked for, so ``tokens`` may be memory-mapped.
    Raises: TaskError if the tokens do not fill a single window.
    """

    def __init__(self, tokens: Tokens, *, context_length: int, num_windows: int | None = None) -> None:
        available = (len(tokens) - 1) // context_length
        if available < 1:
            raise TaskError(
                f"{len(tokens)} tokens do not fill one window of {context_length} and its next token: give more "
                f"text, or a shorter context."
            )
        self.tokens = tokens
        self.context_length = context_length
        num_windows = available if num_windows is None else min(num_windows, available)
        self._starts = np.arange(num_windows) * available // num_windows * context_length

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return the window ``index``; IndexError beyond the last one ends an iteration."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
        """Return several windows, read in one go."""
        starts = self._starts[np.asarray(indices, dtype=np.int64)]
        windows = self.tokens[starts[:, None] + np.arange(self.context_length + 1)].astype(np.int64)
        return [(window[:-1], window[1:]) for window in torch.from_numpy(windows)]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSplit:
    """Tokens to train on, and tokens held out; ``sha256`` is that of both."""

    training: Tokens
    validation: Tokens
    sha256: str


def split_tokens(tokens: Tokens, *, context_length: int, vocabulary_size: int) -> TokenSplit:
    """Return the tokens to train on, and the last twentieth, at least one window, to validate on.

    The tokens are read once from end to end.
    Raises: TaskError if there are fewer than two windows, or an id is outside the vocabulary.
    """
    window = context_length + 1
    if len(tokens) < 2 * window:
        raise TaskError(
            f"{len(tokens)} tokens are fewer than the {2 * window} of one training and one validation window with "
            f"a context of {context_length}: give more text, or a shorter context."
        )
    digest = hashlib.sha256(tokens.dtype.str.encode())
    for start in range(0, len(tokens), _PIECE):
        piece = np.ascontiguousarray(tokens[start : start + _PIECE])
        digest.update(piece.data)
        lowest, highest = int(piece.min()), int(piece.max())
        if lowest < 0 or highest >= vocabulary_size:
            raise TaskError(
                f"there is a token {lowest if lowest < 0 else highest}, but in a vocabulary of {vocabulary_size} "
                f"they must be in 0..{vocabulary_size - 1}: give the vocabulary_size and the integers they have."
            )
    cut = len(tokens) - max(len(tokens) // _VALIDATION_ONE_IN, window)
    return TokenSplit(training=tokens[:cut], validation=tokens[cut:], sha256=digest.hexdigest())


def token_file(path: Path, *, integers: Literal["uint16", "uint32"]) -> Tokens:
    """Return the tokens of a file, memory-mapped: a flat array in ``.npy``, or raw ``integers`` in ``.bin``.

    Raw files are little-endian, as nanoGPT writes them.
    Raises: TaskError if there is no such file, it is empty, or it holds something else; OptionError.
    """
    if integers not in ("uint16", "uint32"):
        raise OptionError(f"integers is {integers!r}, but must be 'uint16' or 'uint32'.")
    try:
        if path.stat().st_size == 0:
            raise TaskError(f"{path} is empty: give a file with tokens in it.")
        tokens = _map_array(path) if path.suffix == ".npy" else _map_raw(path, np.dtype(integers))
    except FileNotFoundError:
        raise TaskError(f"there is no token file at {path}: give the path of a .bin or .npy file.") from None
    except OSError as error:
        raise TaskError(f"{path} cannot be read ({error.strerror}): give a token file that can.") from None
    return tokens


def _map_raw(path: Path, dtype: np.dtype[Any]) -> Tokens:
    size = path.stat().st_size
    if size % dtype.itemsize:
        raise TaskError(
            f"{path} has {size} bytes, which is no whole number of {dtype} tokens: give the integers it was "
            f"written with."
        )
    return np.memmap(path, dtype=dtype.newbyteorder("<"), mode="r")


def _map_array(path: Path) -> Tokens:
    try:
        tokens: Tokens = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError):
        raise TaskError(f"{path} is not a whole NumPy array: give a .npy file that numpy.save wrote.") from None
    if tokens.ndim != 1 or not np.issubdtype(tokens.dtype, np.integer):
        raise TaskError(
            f"{path} holds {tokens.dtype} of shape {tokens.shape}, but tokens are one flat array of integers: "
            f"save them as one."
        )
    return tokens
