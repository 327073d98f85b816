"""Tables in terminals of any width."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from frostline.run.view.fitting_table import FittingTable

TABLE = FittingTable(
    header=("rung", "layers", "examples", "done", "best score", "seconds each", "seconds", "left"),
    rows=[
        ("0", "1", "2,048", "26 (1 diverged)", "0.96187", "0.04", "1.0", "0.0 s"),
        ("1", "6", "1,024,000", "3", "-0.69338", "12345.67", "37037.0", "1 h 4 min"),
    ],
    spare=("seconds", "seconds each", "left", "examples"),
)


def drawn(width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(TABLE)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", range(20, 120))
def test_no_number_is_cut_and_no_line_is_too_long(width: int) -> None:
    text = drawn(width)
    assert "…" not in text
    assert all(len(line) <= width for line in text.splitlines())
    if width >= 39:
        assert {"0.96187", "-0.69338", "26", "diverged)"} <= {*text.split()}


def test_columns_are_left_out_one_after_the_other() -> None:
    assert len(drawn(110).splitlines()) == 3
    assert "37037.0" in drawn(80)
    assert "37037.0" not in drawn(70)
    assert "12345.67" in drawn(70)
    assert "1,024,000" in drawn(50)
    assert "1,024,000" not in drawn(40)


def test_a_header_is_folded_before_any_row_is() -> None:
    header = ("rung", "layers", "images", "done", "best score", "seconds each", "seconds", "left")
    rows = [(f"{rung}", "1", "128", "12/12 (9 diverged)", "0.86115", "0.00", "0.0", "0.0 s") for rung in range(3)]
    console = Console(file=io.StringIO(), width=80)
    console.print(FittingTable(header=header, rows=rows))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert [line.split()[0] for line in lines[-3:]] == ["0", "1", "2"]
    assert all("12/12 (9 diverged)" in line and line.rstrip().endswith("0.0 s") for line in lines[-3:])
