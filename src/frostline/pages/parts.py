"""What pages are made of, as data: texts, tables and figures. None of it is HTML: templates write and escape it all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A paragraph of text."""

    text: str


@dataclass(frozen=True, slots=True)
class Note:
    """A paragraph that says how to read what stands beside it."""

    text: str


@dataclass(frozen=True, slots=True)
class Bullets:
    """A list of sentences."""

    sentences: Iterable[str]


@dataclass(frozen=True, slots=True)
class Command:
    """A command of the shell."""

    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table of numbers; columns in ``words`` are text, rows in ``chosen`` stand out."""

    header: Sequence[str]
    rows: Iterable[Sequence[str]]
    words: Sequence[int] = field(default=(), kw_only=True)
    chosen: Sequence[int] = field(default=(), kw_only=True)


@dataclass(frozen=True, slots=True)
class Folded:
    """A table that is shown when its summary is clicked, and in print unless it ``is_long``."""

    summary: str
    table: Table
    is_long: bool = field(default=False, kw_only=True)


class Cell(NamedTuple):
    """A cell of a ``SortableTable``: what it shows, and the value that it is sorted by and written as."""

    text: str
    value: str | float


@dataclass(frozen=True, slots=True)
class SortableTable:
    """A table that a click on a heading sorts, and that can be saved as the CSV ``file_name``; the rest as of a table."""

    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    file_name: str
    words: Sequence[int] = field(default=(), kw_only=True)
    chosen: Sequence[int] = field(default=(), kw_only=True)


@dataclass(frozen=True, slots=True)
class Figure:
    """A plotly figure. ``label`` says in words what it shows, ``caption`` stands above it.

    ``captions`` are those that take its place when a choice of a ``Chooser`` is made.
    """

    plotly: Any
    label: str
    caption: str = field(default="", kw_only=True)
    captions: Sequence[str] = field(default=(), kw_only=True)


@dataclass(frozen=True, slots=True)
class Multiples:
    """Figures side by side, as many as fit; ``name`` is what a ``Chooser`` calls them."""

    figures: Sequence[Figure]
    is_small: bool = field(default=False, kw_only=True)
    name: str = field(default="", kw_only=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chooser:
    """A choice of which traces the ``Multiples`` called ``name`` show."""

    text: str
    choices: Sequence[str]
    chosen: int
    name: str


class Mark(NamedTuple):
    """A mark in figures: its symbol, its colour, and what it means."""

    symbol: str
    colour: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Key:
    """The key to marks in figures."""

    marks: Iterable[Mark]


@dataclass(frozen=True, slots=True)
class Answer:
    """The box that says first what the page is about."""

    headline: str
    parts: Sequence[Paragraph | Table | Command]


@dataclass(frozen=True, slots=True)
class Warnings:
    """The warnings, or that there is none."""

    sentences: Sequence[str]


Part = (
    Paragraph
    | Note
    | Bullets
    | Command
    | Table
    | SortableTable
    | Folded
    | Figure
    | Multiples
    | Chooser
    | Key
    | Answer
    | Warnings
)


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands below it."""

    heading: str
    parts: Sequence[Part]


def figure_section(heading: str, plotly: Any, *, note: str = "") -> Section:
    """Return the section of one figure, which its heading describes, below a note."""
    return Section(heading, [*([Note(note)] if note else []), Figure(plotly, heading)])
