"""The folder of what a study's trainings left on disk: checkpoints, and the weights of the best."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from frostline.inputs.safe_names import folder_name

_OURS = re.compile(r"[0-9a-f]{16}|models")


def study_folder(runs: Path, study: str) -> Path | None:
    """Return the folder of ``study`` below ``runs``, if it is there and one of ours."""
    folder = runs / folder_name(study)
    return folder if folder.is_dir() and _parts(folder) else None


def delete_study_folder(folder: Path) -> None:
    """Delete what trainings left in the folder of a study, and the folder unless somebody else's files are in it."""
    for part in _parts(folder):
        shutil.rmtree(part)
    if not any(folder.iterdir()):
        folder.rmdir()


def _parts(folder: Path) -> list[Path]:
    """Return the folders in it that trainings made: whatever else lies there is not ours to delete."""
    return [part for part in folder.iterdir() if part.is_dir() and _OURS.fullmatch(part.name)]
