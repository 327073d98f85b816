"""The command `frostline retry`: what failed in a study is tried once more."""

from __future__ import annotations

from typing import Annotated

import typer

from frostline.cli.options.arguments import StorageOption, StudyArgument
from frostline.store.backends.storage import DEFAULT_STORAGE
from frostline.wording import counted


def retry_command(
    study: StudyArgument,
    storage: StorageOption = DEFAULT_STORAGE,
    every: Annotated[
        bool, typer.Option("--all", help="Also what ran out of memory, and what processes died of.")
    ] = False,
) -> None:
    """Let the evaluations of a study that failed be tried once more, when its search is run again."""
    from frostline.store.maintenance import retry_failed

    numbers = retry_failed(storage, study, every=every)
    if not numbers:
        hint = "" if every else " Memory that ran out and processes that died come again with --all."
        typer.echo(f"nothing to try once more in the study {study!r}.{hint}")
        return
    typer.echo(
        f"{counted(len(numbers), 'configuration')} that failed ({_some(numbers)}): run the search again with the command "
        f"that began it, and {'it is' if len(numbers) == 1 else 'they are'} tried first."
    )


def _some(numbers: list[int], most: int = 10) -> str:
    shown = ", ".join(map(str, numbers[:most]))
    return shown if len(numbers) <= most else f"{shown}, ..."
