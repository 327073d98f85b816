"""A table that fits into any width: columns are left out, and words wrapped, but no number is cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.table import Column, Table
from rich.text import Text

from frostline.inputs.printable import printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions

# What rich puts around each column.
_PADDING = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class FittingTable:
    """Rows under a header, as texts, of which as many columns are shown as there is room for."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    spare: Sequence[str] = ()
    """The headings of columns that may be missing: the first is left out first."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table]:
        """Draw the table (rich's protocol)."""
        widths = self.widths(options.max_width)
        table = Table(
            *(
                Column(_text(self.header[index]), justify="right", overflow="fold", width=width)
                for index, width in widths.items()
            ),
            box=None,
        )
        for row in self.rows:
            table.add_row(*(_text(row[index]) for index in widths))
        yield table

    def widths(self, room: int) -> dict[int, int | None]:
        """Return the columns that are shown in so many characters, and how wide each is; None: as rich folds it."""
        columns = {
            index: (heading, *(row[index] for row in self.rows)) for index, heading in enumerate(self.header)
        }
        least = {
            index: max(len(word) for cell in cells for word in cell.split(" ")) for index, cells in columns.items()
        }
        for heading in self.spare:
            if _taken(least) <= room:
                break
            least.pop(self.header.index(heading), None)
        left = room - _taken(least)
        if left < 0:
            return dict.fromkeys(least)
        # What is left over goes to those that would wrap: to cells first, as a header is there but once, from the left.
        widths = dict(least)
        for first in (1, 0):
            for index, width in widths.items():
                more = min(left, max(map(len, columns[index][first:]), default=0) - width)
                widths[index] += max(0, more)
                left -= max(0, more)
        return dict(widths)


def _taken(widths: dict[int, int]) -> int:
    return sum(widths.values()) + _PADDING * len(widths)


def _text(text: str) -> Text:
    """Return ``text`` as it is: in names of others brackets are no markup, and nothing moves the cursor."""
    return Text(printable(text))
