from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from frostline.errors import OptionError, TaskError
from frostline.tasks.data import tokenization
from frostline.tasks.data.corpus import Corpus, synthetic_source
from frostline.tasks.data.tokenization import cache_directory, encode

CORPUS = synthetic_source(num_bytes=30_000)


def tokens_of(cache: Path | None, vocabulary_size: int = 300) -> np.ndarray:
    return encode(CORPUS, vocabulary_size=vocabulary_size, cache=cache)


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each time a tokenizer was really trained."""
    counted: list[int] = []
    train = tokenization._train_tokenizer

    def counting(corpus: Corpus, vocabulary_size: int) -> Tokenizer:
        counted.append(vocabulary_size)
        return train(corpus, vocabulary_size)

    monkeypatch.setattr(tokenization, "_train_tokenizer", counting)
    return counted


def test_encoding_is_deterministic_and_fills_the_vocabulary() -> None:
    tokens = tokens_of(None)
    assert np.array_equal(tokens, tokens_of(None))
    assert tokens.dtype == np.uint16
    assert tokens.max() == 299
    assert (tokens == 0).sum() == len(CORPUS.documents)  # a border before each
    assert len(tokens) < sum(map(len, CORPUS.documents)) / 1.5


def test_text_that_spells_the_border_is_only_text() -> None:
    corpus = Corpus(name="tricky", documents=("one <|endoftext|> two", "three"))
    assert (encode(corpus, vocabulary_size=260, cache=None) == 0).sum() == 2


def test_any_text_can_be_encoded() -> None:
    corpus = Corpus(name="unicode", documents=("naïve ☃ 日本語 \U0001f600\r\n\x00",))
    assert len(encode(corpus, vocabulary_size=257, cache=None)) == 1 + len(corpus.documents[0].encode())


def test_a_second_run_reads_the_cache(tmp_path: Path, trainings: list[int]) -> None:
    first = tokens_of(tmp_path / "new" / "folder")
    second = tokens_of(tmp_path / "new" / "folder")
    assert np.array_equal(first, second)
    assert second.dtype == first.dtype
    assert trainings == [300]
    tokens_of(tmp_path / "new" / "folder", vocabulary_size=310)
    encode(Corpus(name="other", documents=("other",)), vocabulary_size=300, cache=tmp_path / "new" / "folder")
    assert trainings == [300, 310, 300]
    assert not list(tmp_path.rglob("*.partial"))


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip_a_bit(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def empty(file: Path) -> None:
    file.write_bytes(b"")


def other_content(file: Path) -> None:
    with file.open("wb") as stream:
        np.savez(stream, something=np.arange(3))


def bare_array(file: Path) -> None:
    with file.open("wb") as stream:
        np.save(stream, np.arange(3))


def folder_instead(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, empty, other_content, bare_array, folder_instead])
def test_a_damaged_cache_does_not_matter(tmp_path: Path, trainings: list[int], damage: object) -> None:
    good = tokens_of(tmp_path)
    damage(next(tmp_path.glob("*.npz")))
    assert np.array_equal(tokens_of(tmp_path), good)
    assert trainings == [300, 300]


def test_a_damaged_cache_is_mended(tmp_path: Path, trainings: list[int]) -> None:
    tokens_of(tmp_path)
    flip_a_bit(next(tmp_path.glob("*.npz")))
    tokens_of(tmp_path)
    tokens_of(tmp_path)
    assert trainings == [300, 300]


def test_a_cache_that_cannot_be_written_does_not_matter(tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("a file where the folder should be")
    assert np.array_equal(tokens_of(in_the_way / "cache"), tokens_of(None))


def test_a_full_disk_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert np.array_equal(tokens_of(tmp_path), tokens_of(None))
    assert list(tmp_path.iterdir()) == []


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROSTLINE_CACHE", "/chosen")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert cache_directory() == Path("/chosen")
    monkeypatch.delenv("FROSTLINE_CACHE")
    assert cache_directory() == Path("/caches/frostline")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_directory() == Path.home() / ".cache" / "frostline"


def test_a_vocabulary_too_small_for_bytes_is_refused() -> None:
    with pytest.raises(OptionError, match="vocabulary_size is 256, but a byte-level vocabulary has at least 257"):
        tokens_of(None, vocabulary_size=256)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(TaskError, match=r"text needs the package 'tokenizers'.*pip install 'frostline\[tasks\]'"):
        tokens_of(None)


def test_another_text_is_read_with_the_vocabulary_of_the_first(tmp_path: Path, trainings: list[int]) -> None:
    other = Corpus(name="other", documents=("def read_value(value):\n    return value\n", "naïve prose"))
    tokens = encode(other, vocabulary_size=300, cache=tmp_path, vocabulary_of=CORPUS)
    assert np.array_equal(encode(other, vocabulary_size=300, cache=tmp_path, vocabulary_of=CORPUS), tokens)
    assert trainings == [300]
    own = encode(other, vocabulary_size=300, cache=tmp_path)
    assert not np.array_equal(own, tokens)
    both = Corpus(name="both", documents=(*CORPUS.documents, *other.documents))
    together = encode(both, vocabulary_size=300, cache=None, vocabulary_of=CORPUS)
    assert np.array_equal(together[-len(tokens) :], tokens)
    assert np.array_equal(together[: -len(tokens)], tokens_of(None))
