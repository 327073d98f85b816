"""The best models of a study, kept as its trainings in full end: their weights, one file for each configuration."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from frostline.errors import FrostlineError, ModelError
from frostline.inputs.safe_names import folder_name
from frostline.training.model_files import SUFFIX, Model, read_model, write_model

if TYPE_CHECKING:
    from torch import nn

    from frostline.records import Configuration

FOLDER = "models"
"""Where they lie in the folder of a study."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptModels:
    """The weights of configurations of one study that were trained in full. Losing one costs nothing but the file."""

    directory: Path
    data: str = ""
    """The fingerprint of what they were trained on: another study's of the same name are not taken for this one's."""

    @classmethod
    def of_study(cls, runs: Path, study: str, *, data: str = "") -> KeptModels:
        """Return those of ``study`` below the folder ``runs``, where its checkpoints are too."""
        return cls.in_folder(runs / folder_name(study), data=data)

    @classmethod
    def in_folder(cls, folder: Path, *, data: str = "") -> KeptModels:
        """Return those in the ``folder`` of a study."""
        return cls(directory=folder / FOLDER, data=data)

    def path_of(self, configuration: Configuration) -> Path:
        """Return the file of a configuration, whether it is there or not."""
        values = sorted((name, repr(value)) for name, value in configuration.hyperparameters.items())
        digest = hashlib.sha256(json.dumps([self.data, values]).encode()).hexdigest()[:16]
        return self.directory / f"{configuration.number:06d}-{digest}{SUFFIX}"

    def keep(self, model: nn.Module, configuration: Configuration, *, score: float) -> bool:
        """Write the weights of ``model``, whole or not at all, and return whether that worked.

        A full disk, or a model with a state that cannot be saved, costs the file and not the evaluation: it is logged.
        """
        about = {
            "configuration": f"{configuration.number}",
            "hyperparameters": json.dumps(dict(configuration.hyperparameters)),
            "score": repr(score),
        }
        try:
            write_model(self.path_of(configuration), model, about={"frostline": json.dumps(about)})
        except (FrostlineError, OSError, RuntimeError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())
            logger.warning("the weights of configuration %d are not kept: %s", configuration.number, reason)
            return False
        return True

    def load(self, configuration: Configuration, model: Model) -> Model:
        """Return ``model``, freshly built, with the weights of ``configuration``.

        Raises: ModelError if they are not here, or of another model.
        """
        return read_model(self.existing(configuration), model)

    def existing(self, configuration: Configuration) -> Path:
        """Return the file of a configuration. Raises: ModelError if it is not here."""
        path = self.path_of(configuration)
        if not path.is_file():
            raise ModelError(
                f"there are no weights of configuration {configuration.number} in {self.directory}: the search ran "
                f"elsewhere, or could not write them; name its folder of runs, or train the configuration again."
            )
        return path

    def prune(
        self, configurations: Sequence[Configuration], *, has_ended: Callable[[int], bool], kept: Collection[int]
    ) -> None:
        """Delete what was written of those ``configurations`` that have ended in full, but for those that are ``kept``.

        So goes what a study of the same name left of other configurations. What has not ended by what is known here may have
        been written by another process.
        """
        for path in sorted(self.directory.glob("*")):
            name = path.name.removeprefix(".")
            number = name.partition("-")[0]
            if not number.isdecimal() or int(number) >= len(configurations):
                continue
            own = self.path_of(configurations[int(number)]).name
            # A file that is being written has a name that begins like that.
            is_wanted = path.name == own if has_ended(int(number)) else name.startswith(own)
            if is_wanted and (int(number) in kept or not has_ended(int(number))):
                continue
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                logger.warning("%s could not be deleted: %s", path, error)
