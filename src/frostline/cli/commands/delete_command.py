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
    from frostline.folders.study_place import StudyPlace
    from frostline.store.maintenance import contents_of, delete_study

    folder = checked_folder(runs)
    num_trials, identity = contents_of(storage, study)
    place = StudyPlace(runs=folder, name=study, identity=identity)
    held = f"{counted(num_trials, 'trial')} in {without_password(storage)}"
    has_left = place.exists()
    kept = place.beside() if has_left else []
    if not has_left:
        beside = ""
    elif kept:
        beside = (
            f" and the checkpoints and weights in {place.shared} (kept there: {', '.join(map(printable, kept))})"
        )
    else:
        beside = f" and the folder {place.shared}"
    if not yes:
        if not sys.stdin.isatty():
            raise OptionError(f"this would delete the study {study!r}, {held}{beside}: say --yes.")
        if not _confirmed(f"delete the study {study!r}, {held}{beside}?"):
            typer.echo("nothing was deleted.")
            return
    delete_study(storage, study)
    if has_left:
        place.delete()
    typer.echo(f"deleted: the study {study!r}, {held}{beside}")


def _confirmed(question: str) -> bool:
    """Return the answer to a question. Raises: typer.Exit, as for any interruption, after Ctrl-C or Ctrl-D."""
    try:
        return typer.confirm(question)
    except typer.Abort:
        # The cursor stands behind the question.
        typer.echo("\nnothing was deleted.")
        raise typer.Exit(INTERRUPTED) from None
