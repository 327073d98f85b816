"""A board drawn with rich: the table of the rungs, the best, what is under way, and one bar with its clocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from frostline.inputs.printable import printable
from frostline.run.outcome.sentences import rung_rows
from frostline.run.view.fitting_table import FittingTable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.run.outcome.summary import Summary
    from frostline.run.view.board import Board

_BAR_WIDTH = 30

# Beside the rungs: the table's header, the best, the populations and the bar.
_LINES_BELOW = 8


def board_drawing(board: Board, *, title: str, height: int, now: float) -> Group:
    """Return what is known of a search ``now``, in about ``height`` lines; ``title`` stands there until it begins."""
    parts: list[FittingTable | Text] = []
    if board.summary is not None:
        shown = _shown_rungs(board, max(3, height - _LINES_BELOW))
        parts.append(rung_table(board.summary, board.sample_unit, board.metric, rungs=shown))
        if len(shown) < len(board.summary.rungs):
            parts.append(_line(f"{len(board.summary.rungs) - len(shown)} other rungs are not shown"))
        parts += [_line(board.best_line)] if board.best_line else []
        parts += map(_line, board.training_lines)
    else:
        parts.append(_line(title))
    return Group(*parts, _bar(board, now))


def rung_table(
    summary: Summary, sample_unit: str, metric: str | None = None, *, rungs: Sequence[int] | None = None
) -> FittingTable:
    """Return the table of the rungs, or of some: what they train, what is done, the best score and the seconds."""
    header, *rows = rung_rows(summary, sample_unit, metric)
    shown = [row for rung, row in enumerate(rows) if rungs is None or rung in rungs]
    spare = [heading for heading in ("seconds", "seconds each", "left", sample_unit) if heading in header]
    return FittingTable(header=header, rows=shown, spare=spare)


def _shown_rungs(board: Board, most: int) -> list[int]:
    """Return the rungs to show: all of a ladder, and of an audit's many cells those that something happens at."""
    assert board.summary is not None
    rungs = list(range(len(board.summary.rungs)))
    if len(rungs) <= most:
        return rungs
    busy = board.busy_rungs
    begun = [rung.rung for rung in board.summary.rungs if rung.ended and rung.rung not in busy]
    return sorted([*busy, *reversed(begun)][:most])


def _bar(board: Board, now: float) -> Table:
    share = board.pace.share(now)
    row = Table.grid(padding=(0, 1))
    row.add_row(
        # Without a total it moves to and fro: nothing tells yet how much there is to do.
        ProgressBar(
            total=None if share is None else 1.0, completed=share or 0.0, width=_BAR_WIDTH, pulse=share is None
        ),
        Text("" if share is None else f"{share:4.0%}"),
        _line(board.time_words(now)),
    )
    return row


def _line(text: str) -> Text:
    return Text(printable(text), no_wrap=True, overflow="ellipsis")
