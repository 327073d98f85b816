"""The command `frostline delete`: a study, and the folder of what its trainings left."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from frostline.cli.options.arguments import StorageOption, StudyArgument
from frostline.errors import OptionError
from frostline.inputs.credentials import without_password
from frostline.inputs.printable import printable
from frostline.process import INTERRUPTED
from frostline.run.execution.options import DEFAULT_RUNS
from frostline.store.backends.storage import DEFAULT_STORAGE
from frostline.wording import counted


def delete_command(
    study: StudyArgument,
    storage: StorageOption = DEFAULT_STORAGE,
    runs: Annotated[
        str, typer.Option("--runs", help="The folder, or URL, of its checkpoints and weights.")
    ] = f"{DEFAULT_RUNS}",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete a study, and its folder of checkpoints and weights."""
    from frostline.folders.places import checked_folder
    from frostline.run.outcome.study_folder import delete_study_folder, kept_in, study_folder
    from frostline.store.maintenance import delete_study, num_trials

    folder = study_folder(checked_folder(runs), study)
    held = f"{counted(num_trials(storage, study), 'trial')} in {without_password(storage)}"
    kept = [] if folder is None else kept_in(folder)
    if folder is None:
        beside = ""
    elif kept:
        beside = f" and the checkpoints and weights in {folder} (kept there: {', '.join(map(printable, kept))})"
    else:
        beside = f" and the folder {folder}"
    if not yes:
        if not sys.stdin.isatty():
            raise OptionError(f"this would delete the study {study!r}, {held}{beside}: say --yes.")
        if not _confirmed(f"delete the study {study!r}, {held}{beside}?"):
            typer.echo("nothing was deleted.")
            return
    delete_study(storage, study)
    if folder is not None:
        delete_study_folder(folder)
    typer.echo(f"deleted: the study {study!r}, {held}{beside}")


def _confirmed(question: str) -> bool:
    """Return the answer to a question. Raises: typer.Exit, as for any interruption, after Ctrl-C or Ctrl-D."""
    try:
        return typer.confirm(question)
    except typer.Abort:
        # The cursor stands behind the question.
        typer.echo("\nnothing was deleted.")
        raise typer.Exit(INTERRUPTED) from None
