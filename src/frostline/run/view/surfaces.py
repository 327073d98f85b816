"""Where a search is shown: a terminal that is drawn over again, the output of a notebook's cell, or lines of plain text."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console
from rich.file_proxy import FileProxy
from rich.live import Live

from frostline.inputs.printable import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

_NOTEBOOK_WIDTH, _NOTEBOOK_HEIGHT, _MOST_NOTEBOOK_LINES = 110, 40, 200
_NOTEBOOK_CODE = '<pre style="white-space:pre;overflow-x:auto;line-height:normal">{code}</pre>'


class Surface(Protocol):
    """A place that shows a search; one thread uses it at a time."""

    seconds: float
    """How often it shows where the search is, by itself."""
    pause: float
    """How long lines may wait for others, to be written at once."""

    @property
    def height(self) -> int:
        """How many lines have room."""
        ...

    def open(self) -> None:
        """Begin."""
        ...

    def say(self, lines: Sequence[str]) -> None:
        """Show lines that stay."""
        ...

    def show(self, drawing: RenderableType, status: str) -> None:
        """Show where the search is, drawn or in one line, in place of what was shown of it before."""
        ...

    def close(self) -> None:
        """End: lines stay, and what was drawn goes."""
        ...


def surface_of(console: Console) -> Surface:
    """Return how ``console`` shows a search."""
    if console.is_jupyter:
        return NotebookSurface()
    is_drawn_over = console.is_terminal and not console.is_dumb_terminal
    return TerminalSurface(console) if is_drawn_over else PlainSurface(console)


class TerminalSurface:
    """Lines that scroll by, and below them where the search is. What others print stands among the lines."""

    seconds, pause = 0.5, 0.1

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._redirected: list[tuple[logging.StreamHandler[Any], Any]] = []
        """Handlers of log records that wrote past what is drawn, and where they wrote."""

    @property
    def height(self) -> int:
        """See ``Surface``."""
        return self._console.height

    def open(self) -> None:
        """See ``Surface``."""
        streams = {id(sys.stdout): "stdout", id(sys.stderr): "stderr"}
        self._live.start()
        for handler in _stream_handlers():
            name = streams.get(id(handler.stream))
            if name is not None:
                self._redirected.append((handler, handler.setStream(getattr(sys, name))))
        # A process that is forked from this one, as those that load data are, would wait for a lock that nobody holds.
        os.register_at_fork(after_in_child=_print_plainly)

    def say(self, lines: Sequence[str]) -> None:
        """See ``Surface``."""
        _print(self._console, lines)

    def show(self, drawing: RenderableType, status: str) -> None:  # noqa: ARG002
        """See ``Surface``."""
        self._live.update(drawing, refresh=True)

    def close(self) -> None:
        """See ``Surface``."""
        for handler, stream in self._redirected:
            handler.setStream(stream)
        self._redirected.clear()
        self._live.stop()


class PlainSurface:
    """Lines, and every half minute one more."""

    seconds, pause = 30.0, 0.0
    height = 1

    def __init__(self, console: Console) -> None:
        self._console = console

    def open(self) -> None:
        """See ``Surface``."""

    def say(self, lines: Sequence[str]) -> None:
        """See ``Surface``."""
        _print(self._console, lines)

    def show(self, drawing: RenderableType, status: str) -> None:  # noqa: ARG002
        """See ``Surface``."""
        _print(self._console, [status])

    def close(self) -> None:
        """See ``Surface``."""


class NotebookSurface:
    """One output of a cell: the latest lines, and below them where the search is. Needs no widgets."""

    seconds, pause = 1.0, 0.5
    height = _NOTEBOOK_HEIGHT

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=_MOST_NOTEBOOK_LINES)
        self._drawing: RenderableType | None = None
        self._handle: Any = None

    def open(self) -> None:
        """See ``Surface``."""
        from IPython.display import display

        self._handle = display(self._output(), display_id=True)

    def say(self, lines: Sequence[str]) -> None:
        """See ``Surface``."""
        self._lines.extend(lines)
        self._update()

    def show(self, drawing: RenderableType, status: str) -> None:  # noqa: ARG002
        """See ``Surface``."""
        self._drawing = drawing
        self._update()

    def close(self) -> None:
        """See ``Surface``."""
        self._drawing = None
        self._update()

    def _update(self) -> None:
        self._handle.update(self._output())

    def _output(self) -> Any:
        from IPython.display import HTML

        console = Console(record=True, file=io.StringIO(), width=_NOTEBOOK_WIDTH, force_jupyter=False)
        _print(console, self._lines)
        if self._drawing is not None:
            console.print(self._drawing)
        return HTML(console.export_html(inline_styles=True, code_format=_NOTEBOOK_CODE))


def _print(console: Console, lines: Sequence[str]) -> None:
    for line in lines:
        console.print(printable(line), soft_wrap=True, markup=False, emoji=False, highlight=False)


def _stream_handlers() -> list[logging.StreamHandler[Any]]:
    """Return what writes log records to a stream, of every logger there is."""
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    handlers = [handler for logger in loggers if isinstance(logger, logging.Logger) for handler in logger.handlers]
    return [handler for handler in handlers if type(handler) is logging.StreamHandler]


def _print_plainly() -> None:
    """Let this process print as if nothing were drawn."""
    if isinstance(sys.stdout, FileProxy):
        sys.stdout = sys.stdout.rich_proxied_file
    if isinstance(sys.stderr, FileProxy):
        sys.stderr = sys.stderr.rich_proxied_file
