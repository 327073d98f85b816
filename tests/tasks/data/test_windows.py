from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from frostline.errors import OptionError, TaskError
from frostline.tasks.data.windows import TokenWindows, split_tokens, token_file


def test_a_window_is_followed_by_its_targets() -> None:
    windows = TokenWindows(np.arange(10, dtype=np.uint16), context_length=3)
    assert len(windows) == 3
    inputs, targets = windows[1]
    assert inputs.tolist() == [3, 4, 5]
    assert targets.tolist() == [4, 5, 6]
    assert inputs.dtype == targets.dtype == torch.int64


def test_windows_come_by_the_batch() -> None:
    windows = TokenWindows(np.arange(1000, dtype=np.uint16), context_length=8)
    batch = windows.__getitems__([5, 0, 17])
    for (inputs, targets), index in zip(batch, (5, 0, 17), strict=True):
        assert torch.equal(inputs, windows[index][0])
        assert torch.equal(targets, windows[index][1])
    inputs, targets = next(iter(DataLoader(windows, batch_size=4)))
    assert inputs.shape == targets.shape == (4, 8)


@given(
    num_tokens=st.integers(2, 400),
    context_length=st.integers(1, 40),
    num_windows=st.one_of(st.none(), st.integers(1, 50)),
)
def test_windows_never_overlap_and_lie_inside(
    num_tokens: int, context_length: int, num_windows: int | None
) -> None:
    tokens = np.arange(num_tokens, dtype=np.uint16)
    if num_tokens <= context_length:
        with pytest.raises(TaskError, match=f"{num_tokens} tokens do not fill one window of {context_length}"):
            TokenWindows(tokens, context_length=context_length, num_windows=num_windows)
        return
    windows = TokenWindows(tokens, context_length=context_length, num_windows=num_windows)
    available = (num_tokens - 1) // context_length
    assert len(windows) == (available if num_windows is None else min(num_windows, available))
    starts = [int(inputs[0]) for inputs, _ in windows]
    assert all(later - earlier >= context_length for earlier, later in itertools.pairwise(starts))
    assert all(torch.equal(inputs + 1, targets) for inputs, targets in windows)


def test_few_windows_are_spread_over_all_tokens() -> None:
    windows = TokenWindows(np.arange(1001, dtype=np.uint16), context_length=10, num_windows=4)
    assert [int(inputs[0]) for inputs, _ in windows] == [0, 250, 500, 750]


def test_the_last_twentieth_is_held_out() -> None:
    tokens = np.arange(1000, dtype=np.uint32)
    split = split_tokens(tokens, context_length=8, vocabulary_size=1000)
    assert split.training.tolist() == list(range(950))
    assert split.validation.tolist() == list(range(950, 1000))
    short = split_tokens(tokens[:20], context_length=8, vocabulary_size=1000)
    assert len(short.validation) == 9


def test_the_hash_of_the_tokens_sees_each_of_them() -> None:
    tokens = np.arange(1000, dtype=np.uint16)
    hashes = [split_tokens(tokens, context_length=8, vocabulary_size=1000).sha256]
    tokens[567] = 0
    hashes.append(split_tokens(tokens, context_length=8, vocabulary_size=1000).sha256)
    assert hashes[0] != hashes[1]


def test_too_few_tokens_are_refused() -> None:
    with pytest.raises(
        TaskError, match="17 tokens are fewer than the 18 of one training and one validation window"
    ):
        split_tokens(np.zeros(17, dtype=np.uint16), context_length=8, vocabulary_size=10)


@pytest.mark.parametrize(("bad", "dtype"), [(10, np.uint16), (70_000, np.uint32), (-1, np.int64)])
def test_a_token_outside_the_vocabulary_is_refused(bad: int, dtype: type) -> None:
    tokens = np.zeros(1000, dtype=dtype)
    tokens[999] = bad
    with pytest.raises(
        TaskError, match=rf"there is a token {bad}, but in a vocabulary of 10 they must be in 0\.\.9"
    ):
        split_tokens(tokens, context_length=8, vocabulary_size=10)


@pytest.mark.parametrize("integers", ["uint16", "uint32"])
def test_raw_token_files_are_mapped(tmp_path: Path, integers: str) -> None:
    tokens = np.arange(60_000, dtype=integers)
    tokens.tofile(tmp_path / "train.bin")
    mapped = token_file(tmp_path / "train.bin", integers=integers)
    assert isinstance(mapped, np.memmap)
    assert np.array_equal(mapped, tokens)
    assert TokenWindows(mapped, context_length=4)[2][1].tolist() == [9, 10, 11, 12]


def test_numpy_token_files_are_mapped(tmp_path: Path) -> None:
    np.save(tmp_path / "train.npy", np.arange(50, dtype=np.int32))
    mapped = token_file(tmp_path / "train.npy", integers="uint16")
    assert isinstance(mapped, np.memmap)
    assert mapped.tolist() == list(range(50))


def test_token_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "empty.bin").write_bytes(b"")
    (tmp_path / "odd.bin").write_bytes(b"abc")
    (tmp_path / "broken.npy").write_bytes(b"not an array")
    np.save(tmp_path / "whole.npy", np.arange(1000))
    (tmp_path / "short.npy").write_bytes((tmp_path / "whole.npy").read_bytes()[:500])
    np.save(tmp_path / "floats.npy", np.zeros(10))
    np.save(tmp_path / "table.npy", np.zeros((5, 2), dtype=np.int64))
    np.save(tmp_path / "objects.npy", np.array([{}]))
    (tmp_path / "folder.bin").mkdir()
    for name, words in (
        ("missing.bin", "there is no token file at .*missing.bin: give the path of a .bin or .npy file"),
        ("empty.bin", "empty.bin is empty: give a file with tokens in it"),
        ("odd.bin", "odd.bin has 3 bytes, which is no whole number of uint16 tokens: give the integers"),
        ("broken.npy", "broken.npy is not a whole NumPy array: give a .npy file that numpy.save wrote"),
        ("short.npy", "short.npy is not a whole NumPy array"),
        ("objects.npy", "objects.npy is not a whole NumPy array"),
        ("floats.npy", r"floats.npy holds float64 of shape \(10,\), but tokens are one flat array of integers"),
        ("table.npy", r"table.npy holds int64 of shape \(5, 2\), but tokens are one flat array"),
        ("folder.bin", "folder.bin cannot be read"),
    ):
        with pytest.raises(TaskError, match=words):
            token_file(tmp_path / name, integers="uint16")


def test_unknown_integers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="integers is 'int8', but must be 'uint16' or 'uint32'"):
        token_file(tmp_path / "train.bin", integers="int8")
