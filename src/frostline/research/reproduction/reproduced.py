"""What came of making one figure again: numbers, drawings, and what was found beside what the paper found."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
import torch

from frostline.atomic import write_whole
from frostline.pages.page import page
from frostline.pages.parts import Note, Part, Section, Table, Warnings
from frostline.statistics.bootstrap import Estimate

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Cell = str | int | float | None


class Verdict(StrEnum):
    """What our numbers say of a finding of the paper's."""

    HOLDS = "holds"
    FAILS = "does not hold"
    UNCLEAR = "cannot be told"
    """The interval holds both answers."""
    SHOWN = "shown"
    """Nothing to hold or not: a figure beside a figure."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing the paper found, what we found, and whether that agrees."""

    what: str
    paper: str
    ours: str
    verdict: Verdict = Verdict.SHOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduced:
    """A figure of the paper, made again. ``rows`` are its numbers as one tidy table, a row for each mark that is drawn."""

    name: str
    title: str
    scale: str
    circumstances: str
    """On what it was made: data, budget, machine."""
    findings: Sequence[Finding]
    columns: tuple[str, ...]
    rows: Sequence[tuple[Cell, ...]]
    drawings: Sequence[Section] = ()
    notes: Sequence[str] = ()
    """What a reader must know before believing the numbers."""

    def __post_init__(self) -> None:
        assert all(len(row) == len(self.columns) for row in self.rows)

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write ``NAME.csv`` and ``NAME.html`` to ``folder``, and return where they lie.

        Raises: OptionError if that cannot be done.
        """
        table_path, page_path = folder / f"{self.name}.csv", folder / f"{self.name}.html"
        write_whole(table_path, self.table().encode())
        write_whole(page_path, self.page().encode())
        return table_path, page_path

    def table(self) -> str:
        """Return the numbers as CSV, behind a comment of JSON that says where they come from; what is not known is empty."""
        about = {
            "figure": self.name,
            "scale": self.scale,
            "circumstances": self.circumstances,
            "torch": str(torch.__version__),
            "notes": list(self.notes),
        }
        text = io.StringIO()
        text.write(f"# {json.dumps(about)}\n")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows([_written(cell) for cell in row] for row in self.rows)
        return text.getvalue()

    def page(self) -> str:
        """Return a page that needs nothing else: what was found, then the drawings."""
        findings = [(finding.what, finding.paper, finding.ours, finding.verdict) for finding in self.findings]
        opening: list[Part] = [Note(self.circumstances)]
        if self.notes:
            opening.append(Warnings(self.notes))
        opening.append(Table(("", "the paper", "here", ""), findings, words=range(4)))
        return page(self.title, opening, self.drawings)


def at_least(estimate: Estimate, threshold: float) -> Verdict:
    """Return whether a single figure is at least ``threshold``, if its interval says so."""
    if float(estimate.low) >= threshold:
        return Verdict.HOLDS
    return Verdict.FAILS if float(estimate.high) < threshold else Verdict.UNCLEAR


def held(is_so: bool) -> Verdict:
    """Return the verdict on something that is counted and not estimated."""
    return Verdict.HOLDS if is_so else Verdict.FAILS


def parts(estimate: Estimate, index: tuple[int, ...] = ()) -> tuple[float, float, float]:
    """Return a figure and the ends of its interval: value, low, high."""
    return float(estimate.value[index]), float(estimate.low[index]), float(estimate.high[index])


def with_interval(estimate: Estimate, index: tuple[int, ...] = ()) -> str:
    """Return a figure and its interval as "0.87 [0.71, 0.94]"."""
    value, low, high = parts(estimate, index)
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def at(estimate: Estimate, index: tuple[int | slice, ...]) -> Estimate:
    """Return the figure at ``index``, or the figures of a slice."""
    value, low, high = (np.asarray(part[index]) for part in (estimate.value, estimate.low, estimate.high))
    return Estimate(value=value, low=low, high=high)


def _written(cell: Cell) -> str:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    return f"{cell:.6g}" if isinstance(cell, float) else f"{cell}"
