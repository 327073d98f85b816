"""The command `frostline status`: where a study stands."""

from __future__ import annotations

import typer

from frostline.cli.arguments import StorageOption, StudyArgument
from frostline.inputs.credentials import without_password
from frostline.store.storage import DEFAULT_STORAGE


def status_command(study: StudyArgument, storage: StorageOption = DEFAULT_STORAGE) -> None:
    """Show where a study stands."""
    from rich.console import Console

    from frostline.cli.display import rung_table
    from frostline.run.sentences import cost_lines
    from frostline.run.summary import summarise
    from frostline.store.reading import read_study

    stored = read_study(storage, study)
    terms = stored.terms
    summary = summarise(stored.history, terms.rungs, terms.expected)
    typer.echo(
        f"study {study!r} in {without_password(storage)}: task {terms.task}, {summary.num_configurations} configurations"
    )
    Console().print(rung_table(summary, terms.sample_unit))
    for line in cost_lines(summary):
        typer.echo(line)
