"""A file is written whole, or what was there is left and nothing beside it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any

import pytest
import torch

from frostline.atomic import UnnamedFile, check_writable, write_whole
from frostline.errors import OptionError


def full(*_arguments: Any) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("step", ["fsync", "rename"])
def test_a_file_that_cannot_be_written_leaves_what_was_there(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "costs.csv"
    path.write_text("old")
    monkeypatch.setattr(*{"fsync": (os, "fsync", full), "rename": (Path, "replace", full)}[step])
    with pytest.raises(OptionError, match=r"costs.csv cannot be written \(No space left on device\)"):
        write_whole(path, b"new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "costs.csv"
    path.write_text("old")

    def write() -> None:
        with UnnamedFile(tmp_path, prefix="half") as written:
            os.dup2(os.open("/dev/full", os.O_WRONLY), written.file.fileno())
            written.file.write(b"new")
            written.named(path)

    with pytest.raises(OSError, match="No space left"):
        write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupted_writer_leaves_nothing(tmp_path: Path) -> None:
    def write() -> None:
        with UnnamedFile(tmp_path, prefix="half") as written:
            written.file.write(b"half of it")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert list(tmp_path.iterdir()) == []


def test_what_is_written_replaces_what_was_there_and_is_as_readable_as_any_new_file(tmp_path: Path) -> None:
    path, other = tmp_path / "new" / "report.html", tmp_path / "other"
    other.touch()
    for contents in (b"first", b"second, longer"):
        write_whole(path, contents)
        assert path.read_bytes() == contents
    assert path.stat().st_mode == other.stat().st_mode
    assert list(path.parent.iterdir()) == [path]


def test_it_can_be_read_back_before_it_has_its_name(tmp_path: Path) -> None:
    with UnnamedFile(tmp_path, prefix="checkpoint") as written:
        written.file.write(b"contents")
        written.file.seek(0)
        assert written.file.read() == b"contents"
        assert [path.name.split(".")[0] for path in tmp_path.iterdir()] == ["checkpoint"]
        written.named(tmp_path / "contents.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["contents.pt"]


def test_weights_that_the_disk_has_no_room_for_leave_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    path.write_text("old")

    def save(file: IO[bytes]) -> None:
        os.dup2(os.open("/dev/full", os.O_WRONLY), file.fileno())
        torch.save({"weight": torch.zeros(100_000)}, file)

    with pytest.raises(OptionError, match=r"weights.pt cannot be written \(No space left on device\)"):
        write_whole(path, save)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "place", ["/dev/full", "/proc/x.csv", "/proc/x/y.csv", "{}", "{}/file/x.csv", "{}/\0", "x" * 300]
)
def test_what_cannot_be_written_is_known_before(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = Path(place.replace("{}", str(tmp_path)))
    for write in (check_writable, lambda path: write_whole(path, b"new")):
        with pytest.raises(OptionError, match="cannot be written") as caught:
            write(path)
        assert "\n" not in str(caught.value)
    check_writable(tmp_path / "new" / "folder" / "x.csv")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
