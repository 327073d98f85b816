"""The command `frostline status`: where a study stands."""

from __future__ import annotations

import typer

from frostline.cli.arguments import StorageOption, StudyArgument
from frostline.inputs.credentials import without_password
from frostline.store.storage import DEFAULT_STORAGE
from frostline.wording import counted


def status_command(study: StudyArgument, storage: StorageOption = DEFAULT_STORAGE) -> None:
    """Show where a study stands."""
    from rich.console import Console

    from frostline.run.sentences import best_words, cost_lines, rung_lines
    from frostline.run.summary import best_evaluation, summarise
    from frostline.run.view.drawing_board import rung_table
    from frostline.store.reading import read_study

    stored = read_study(storage, study)
    terms = stored.terms
    summary = summarise(stored.history, terms.rungs, terms.expected)
    typer.echo(
        f"study {study!r} in {without_password(storage)}: task {terms.task}, "
        f"{counted(summary.num_configurations, 'configuration')}"
    )
    Console().print(rung_table(summary, terms.sample_unit, terms.metric))
    best = best_evaluation(stored.history)
    if best is not None:
        typer.echo(best_words(best, terms.direction, metric=terms.metric, num_rungs=len(terms.rungs)))
    for line in [*rung_lines(stored.history, terms), *cost_lines(summary)]:
        typer.echo(line)
