"""Where the trainings of one study keep what they leave: checkpoints, and the weights of the best models."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from frostline.folders.local_folder import LocalFolder
from frostline.inputs.safe_names import folder_name

if TYPE_CHECKING:
    from frostline.folders.folder import Folder

# What trainings make in the folder of a study without an identity.
_OURS = re.compile(r"[0-9a-f]{16}|models")


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPlace:
    """The study ``name`` below the folder ``runs``: ``RUNS/NAME/IDENTITY``.

    The identity tells it from others of its name, in other databases or before it. Studies of earlier versions have none:
    ``RUNS/NAME``. Other things may lie in ``RUNS/NAME``: what trackers wrote, or its user.
    """

    runs: Folder
    name: str
    identity: str = ""

    @property
    def shared(self) -> Folder:
        """The folder of all studies of that name."""
        return self.runs.below(folder_name(self.name))

    @property
    def folder(self) -> Folder:
        """The study's own."""
        return self.shared.below(self.identity) if self.identity else self.shared

    def exists(self) -> bool:
        """Return whether trainings left anything. Raises: OSError if nobody answers."""
        return bool(self._parts())

    def beside(self) -> list[str]:
        """Return the names of what else lies in the folder of all studies of that name."""
        ours, shared = self._parts(), self.shared
        return sorted([*(each for each in shared.folders() if each not in ours), *shared.names()])

    def delete(self) -> None:
        """Delete what trainings left, and the folder of all studies of that name unless something else is in it."""
        shared = self.shared
        for part in self._parts():
            shared.below(part).clear()
        # An object store has no empty folders.
        if isinstance(shared, LocalFolder) and not any(shared.path.iterdir()):
            shared.path.rmdir()

    def _parts(self) -> list[str]:
        """Return the folders in ``shared`` that trainings of this study made."""
        return [
            part
            for part in self.shared.folders()
            if (part == self.identity if self.identity else _OURS.fullmatch(part))
        ]
