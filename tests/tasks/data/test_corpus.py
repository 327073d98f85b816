from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest

from frostline.errors import TaskError
from frostline.tasks.data.corpus import Corpus, python_source, synthetic_source, text_files


def test_the_standard_library_gives_the_same_text_twice() -> None:
    first, second = python_source(max_bytes=500_000), python_source(max_bytes=500_000)
    assert first.name == "python-source"
    assert first.sha256 == second.sha256
    assert 250_000 < sum(len(document.encode()) for document in first.documents) <= 500_000


def test_a_part_of_the_standard_library_is_a_sample_of_it() -> None:
    part = python_source(max_bytes=500_000).documents
    whole = python_source(max_bytes=1_000_000).documents
    assert whole[: len(part)] == part
    assert len(whole) > len(part) > 10
    folder = Path(sysconfig.get_path("stdlib"))
    by_name = [path for path in sorted(folder.glob("*/*.py")) if path.read_bytes()][:20]
    assert not any(path.read_text(encoding="utf-8") in part[:5] for path in by_name)


def standard_library(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_what_is_no_source_of_python_itself_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = b"# kept\n" * 40_000
    files = {
        "kept.py": kept,
        "package/kept.py": kept,
        "site-packages/somebody.py": b"# dropped",
        "test/test_x.py": b"# dropped",
        "package/tests/test_y.py": b"# dropped",
        "idlelib/idle.py": b"# dropped",
        "unreadable.py": b"# dropped \xff\xfe",
        "notes.txt": b"# dropped",
    }
    folder = standard_library(tmp_path, files)
    monkeypatch.setattr(sysconfig, "get_path", lambda _name: str(folder))
    assert set(python_source(max_bytes=600_000).documents) == {kept.decode()}


@pytest.mark.parametrize("files", [{}, {"abc.py": b"one = 1\n"}], ids=["no source", "hardly any"])
def test_without_source_the_text_is_synthetic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes]
) -> None:
    folder = standard_library(tmp_path, files)
    monkeypatch.setattr(sysconfig, "get_path", lambda _name: str(folder))
    corpus = python_source(max_bytes=300_000)
    assert corpus.name == "synthetic-source"
    assert sum(map(len, corpus.documents)) >= 300_000


def test_synthetic_text_is_the_same_everywhere() -> None:
    corpus = synthetic_source(num_bytes=50_000)
    # Golden: the standard library's generator has kept its sequence since Python 3.2.
    assert corpus.sha256.startswith("301ff46d3d2616d6")
    for document in corpus.documents:
        compile(document, "synthetic", "exec")


def test_the_hash_sees_borders_and_content() -> None:
    hashes = {
        Corpus(name="a", documents=documents).sha256
        for documents in (("ab", "c"), ("a", "bc"), ("abc",), ("abd",))
    }
    assert len(hashes) == 4
    assert Corpus(name="b", documents=("abc",)).sha256 == Corpus(name="a", documents=("abc",)).sha256


def test_text_of_a_file_a_folder_and_a_pattern(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("second")
    (tmp_path / "a.txt").write_text("first")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "c.md").write_text("third")
    (tmp_path / "image.png").write_bytes(b"\x89PNG\xff")
    (tmp_path / ".hidden").write_text("hidden")
    assert text_files(tmp_path / "a.txt").documents == ("first",)
    assert text_files(tmp_path).documents == ("first", "second", "third")
    assert text_files(tmp_path / "*.txt").documents == ("first", "second")
    assert text_files(tmp_path / "**" / "*.md").documents == ("third",)


def test_a_hidden_folder_may_be_named(tmp_path: Path) -> None:
    (tmp_path / ".texts").mkdir()
    (tmp_path / ".texts" / "a.txt").write_text("found")
    assert text_files(tmp_path / ".texts").documents == ("found",)


def test_text_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "folder").mkdir()
    for path, words in (
        (tmp_path / "missing.txt", "there is no text at .*missing.txt: give a file, a folder or a pattern"),
        (tmp_path / "*.rst", r"there is no text at .*\*.rst: give a file, a folder or a pattern"),
        (tmp_path / "folder", "there is no text at .*folder: give a file"),
        (tmp_path / "empty.txt", "the corpus empty.txt is empty: give text files with something in them"),
        (tmp_path / "binary.txt", "binary.txt is not UTF-8 text: give text files, or a token file that ends in"),
    ):
        with pytest.raises(TaskError, match=words):
            text_files(path)
