"""The command `frostline status`: where a study stands, and with `--watch` what becomes of it."""

from __future__ import annotations

from typing import Annotated

import typer

from frostline.cli.options.arguments import StorageOption, StudyArgument
from frostline.errors import OptionError
from frostline.inputs.credentials import without_password
from frostline.store.backends.storage import DEFAULT_STORAGE
from frostline.wording import counted

# A look takes milliseconds; a day is as good as never.
_SHORTEST, _LONGEST = 0.1, 86_400.0


def status_command(
    study: StudyArgument,
    storage: StorageOption = DEFAULT_STORAGE,
    watch: Annotated[
        bool, typer.Option("--watch", help="What runs where, again and again, until the search is over or Ctrl-C.")
    ] = False,
    every: Annotated[float, typer.Option("--every", metavar="SECONDS", help="How often --watch looks.")] = 2.0,
) -> None:
    """Show where a study stands."""
    if not _SHORTEST <= every <= _LONGEST:
        raise OptionError(f"--every is {every:g}, but must be in {_SHORTEST:g}..{_LONGEST:g} seconds.")
    if watch:
        from frostline.cli.watched_study import watch_study

        watch_study(storage, study, seconds=every)
    show_status(study, storage)


def show_status(study: str, storage: str) -> None:
    """Print where a study stands."""
    from rich.console import Console

    from frostline.cli.display import show_front
    from frostline.run.outcome.ending import summary_of
    from frostline.run.outcome.front import best_front
    from frostline.run.outcome.sentences import best_words, cost_lines, rung_lines
    from frostline.run.outcome.summary import best_evaluation
    from frostline.run.view.drawing_board import rung_table
    from frostline.store.reading import read_study

    stored = read_study(storage, study)
    terms = stored.terms
    summary = summary_of(stored.history, terms)
    typer.echo(
        f"study {study!r} in {without_password(storage)}: task {terms.task}, "
        f"{counted(summary.num_configurations, 'configuration')}"
    )
    Console().print(rung_table(summary, terms.sample_unit, terms.metric))
    best = best_evaluation(stored.history)
    if best is not None:
        typer.echo(best_words(best, terms.direction, metric=terms.metric, num_rungs=len(terms.rungs)))
    show_front(Console(), best_front(stored.history, terms), terms)
    for line in [*rung_lines(stored.history, terms), *cost_lines(summary)]:
        typer.echo(line)
