"""Labelled texts are read from CSV files as people have them."""

from __future__ import annotations

from pathlib import Path

import pytest

from frostline.errors import TaskError
from frostline.tasks.data.labelled_text import read_labelled_text

ROWS = "".join(f"word {number},{'ab'[number % 2]}\n" for number in range(12))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_file_is_read_with_and_without_the_mark_of_spreadsheets(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "texts.csv"
    path.write_text(f"text,label\n{ROWS}", encoding=encoding)
    read = read_labelled_text(path)
    assert (read.texts[0], len(read.labels), read.label_names) == ("word 0", 12, ("a", "b"))


def test_a_file_of_names_alone_is_said_to_hold_no_text(tmp_path: Path) -> None:
    path = tmp_path / "texts.csv"
    path.write_text("text,label\n")
    with pytest.raises(TaskError, match="has 0 texts with 0 labels, but at least 10 and 2"):
        read_labelled_text(path)
