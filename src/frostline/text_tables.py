"""Small tables of text: aligned columns in a terminal, HTML in a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

Rows = Sequence[Sequence[str]]
"""Rows of as many cells each."""


def text_table(rows: Rows) -> str:
    """Return ``rows`` as lines whose columns are aligned to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def html_table(rows: Rows, *, caption: str = "") -> str:
    """Return ``rows``, of which the first is the header, as an HTML table; whatever they hold is escaped."""
    header, *body = ("".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in row) for tag, row in _tagged(rows))
    lines = "".join(f"<tr>{cells}</tr>" for cells in body)
    title = (
        f'<caption style="white-space: nowrap; text-align: left">{escape(caption)}</caption>' if caption else ""
    )
    return f"<table>{title}<thead><tr>{header}</tr></thead><tbody>{lines}</tbody></table>"


def _tagged(rows: Rows) -> list[tuple[str, Sequence[str]]]:
    return [("td" if index else "th", row) for index, row in enumerate(rows)]
