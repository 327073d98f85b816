"""The command `frostline report`: one page about a search or an audit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from frostline.atomic import check_writable, write_whole
from frostline.store.backends.storage import DEFAULT_STORAGE


def report_command(
    study: Annotated[
        str,
        typer.Argument(metavar="STUDY", help="The name of a study, or the table of an audit, *.csv or *.csv.gz."),
    ],
    out: Annotated[Path, typer.Option("--out", help="The HTML file to write.")] = Path("report.html"),
    storage: Annotated[
        str, typer.Option("--storage", help="A database URL, or the path of a journal file.")
    ] = DEFAULT_STORAGE,
) -> None:
    """Write one page about a search or an audit, which needs no network: open it, send it, print it."""
    check_writable(out)
    from frostline.cli.display import waiting

    with waiting(f"writing the page of {study}"):
        from frostline.report.study_page import study_page

        write_whole(out, study_page(study, storage=storage).encode())
    typer.echo(f"in {out}")
