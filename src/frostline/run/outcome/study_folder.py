"""The folder of what a study's trainings left: checkpoints, and the weights of the best."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from frostline.folders.local_folder import LocalFolder
from frostline.inputs.safe_names import folder_name

if TYPE_CHECKING:
    from frostline.folders.folder import Folder

_OURS = re.compile(r"[0-9a-f]{16}|models")


def study_folder(runs: Folder, study: str) -> Folder | None:
    """Return the folder of ``study`` below ``runs``, if it is there and one of ours. Raises: OSError if nobody answers."""
    folder = runs.below(folder_name(study))
    return folder if _parts(folder) else None


def delete_study_folder(folder: Folder) -> None:
    """Delete what trainings left in the folder of a study, and the folder unless somebody else's files are in it."""
    for part in _parts(folder):
        folder.below(part).clear()
    # An object store has no empty folders.
    if isinstance(folder, LocalFolder) and not any(folder.path.iterdir()):
        folder.path.rmdir()


def kept_in(folder: Folder) -> list[str]:
    """Return the names of what else lies in the folder of a study, and stays: what trackers wrote, or its user."""
    parts = _parts(folder)
    return sorted([*(each for each in folder.folders() if each not in parts), *folder.names()])


def _parts(folder: Folder) -> list[str]:
    """Return the folders in it that trainings made: whatever else lies there is not ours to delete."""
    return [part for part in folder.folders() if _OURS.fullmatch(part)]
