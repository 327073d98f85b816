"""How commands show a search that runs (``frostline.run.view``), and a configuration as a table."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from frostline.inputs.printable import printable
from frostline.run.view.fitting_table import FittingTable
from frostline.run.view.search_view import SearchView
from frostline.run.view.surfaces import surface_of

if TYPE_CHECKING:
    from frostline.records import Configuration
    from frostline.run.outcome.front import FrontMember
    from frostline.store.terms import Terms


def command_view(console: Console, title: str) -> SearchView:
    """Return the view of what a command does, to be used as a context manager; ``title`` says what it does first."""
    return SearchView(surface_of(console), title=title)


@contextmanager
def waiting(title: str) -> Iterator[None]:
    """Show on a terminal what is being done and for how long; what is printed meanwhile, by ``echo``, stands above it."""
    console = Console()
    if not console.is_terminal:
        yield
        return
    with command_view(console, title):
        yield


def echo(text: str) -> None:
    """Print a line, which stands above what a view draws where one is open: ``typer.echo`` would write into that."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def configuration_table(configuration: Configuration) -> Table:
    """Return the table of a configuration's hyperparameters."""
    table = Table(Column(overflow="fold"), Column(overflow="fold"), box=None, show_header=False)
    for name, value in configuration.items():
        table.add_row(_cell(name), _cell(f"{value:.5g}" if isinstance(value, float) else f"{value}"))
    return table


def show_front(console: Console, front: Sequence[FrontMember], terms: Terms) -> None:
    """Print the front of a search against what its models cost; nothing where there is none."""
    # Slow to import.
    from frostline.run.outcome.front import front_rows, front_words

    if not front:
        return
    echo(f"\n{front_words(front, terms)}")
    header, *rows = front_rows(front, terms)
    # The number, the score and the cost are always there.
    console.print(FittingTable(header=header, rows=rows, spare=header[:2:-1]))


def _cell(text: str) -> Text:
    """Return ``text`` as it is: in names and values of others brackets are no markup, and nothing moves the cursor."""
    return Text(printable(text))
