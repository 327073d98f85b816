"""The best models of a study, kept as its trainings in full end: their weights, one file for each configuration."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

from frostline.atomic import write_whole
from frostline.errors import FrostlineError, ModelError
from frostline.folders.folder import delete_if_possible
from frostline.folders.local_folder import LocalFolder
from frostline.training.files.adapter_base import AdapterBase
from frostline.training.files.model_files import SUFFIX, Model, header_of, model_writer, read_model, write_joined

if TYPE_CHECKING:
    from torch import nn

    from frostline.folders.folder import Folder
    from frostline.records import Configuration

FOLDER = "models"
"""Where they lie in the folder of a study."""

# In the header of a file of adapters: the file of what lies beside them.
_BASE = "frostline_base"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptModels:
    """The weights of configurations of one study that were trained in full. Losing one costs nothing but the file."""

    folder: Folder
    data: str = ""
    """The fingerprint of what they were trained on: what has changed since is not taken for the same."""

    @classmethod
    def in_folder(cls, folder: Folder, *, data: str = "") -> KeptModels:
        """Return those in the ``folder`` of a study, where its checkpoints are too."""
        return cls(folder=folder.below(FOLDER), data=data)

    def name_of(self, configuration: Configuration) -> str:
        """Return the name of a configuration's file, whether it is there or not."""
        values = sorted((name, repr(value)) for name, value in configuration.hyperparameters.items())
        digest = hashlib.sha256(json.dumps([self.data, values]).encode()).hexdigest()[:16]
        return f"{configuration.number:06d}-{digest}{SUFFIX}"

    def place_of(self, configuration: Configuration) -> str:
        """Return where the file of a configuration lies, as it may be shown, whether it is there or not."""
        return self.folder.place_of(self.name_of(configuration))

    def keep(self, model: nn.Module, configuration: Configuration, *, score: float) -> bool:
        """Write the weights of ``model``, whole or not at all, and return whether that worked.

        Of a model with adapters the base is written once for all configurations, if it can be: a quantised one need not be,
        and has to be there when adapters are loaded.
        A full disk, a store that does not answer, or a model with a state that cannot be saved, costs the file and not the
        evaluation: it is logged.
        """
        about = {
            "configuration": f"{configuration.number}",
            "hyperparameters": json.dumps(dict(configuration.hyperparameters)),
            "score": repr(score),
        }
        what = f"the weights of configuration {configuration.number}"
        return _worked(lambda: self._keep(model, self.name_of(configuration), about), what=what)

    def _keep(self, model: nn.Module, name: str, about: Mapping[str, str]) -> None:
        header, base = {"frostline": json.dumps(about)}, AdapterBase.of(model)
        if base is None:
            self._write(name, model_writer(model, about=header))
            return
        beside = _file_of(base)
        if not self.folder.names(beside):
            _worked(
                lambda: self._write(beside, model_writer(model, takes=base.holds)),
                what="the weights beside the adapters",
            )
        self._write(
            name, model_writer(model, about=header | {_BASE: beside}, takes=lambda name: not base.holds(name))
        )

    def load(self, configuration: Configuration, model: Model) -> Model:
        """Return ``model``, freshly built, with the weights of ``configuration``.

        Raises: ModelError if they are not here, or of another model.
        """
        place = self.place_of(configuration)
        with self.fetched(configuration) as path:
            beside = header_of(path, place=place).get(_BASE)
            if beside is None:
                return read_model(path, model, place=place)
            base = AdapterBase.of(model)
            if base is not None and _file_of(base) == beside:
                return read_model(path, model, place=place, base=base)
            with self._fetched_base(beside, place=place, trouble="are others here and were not kept") as base_path:
                return read_model(path, model, place=place, base=base_path)

    def copy(self, configuration: Configuration, file: Path) -> None:
        """Write all weights of a configuration's model to ``file``, those beside adapters too, whole or not at all.

        Raises: ModelError if they are not here; OptionError if the file cannot be written.
        """
        with self.fetched(configuration) as path:
            place = self.place_of(configuration)
            beside = header_of(path, place=place).get(_BASE)
            if beside is None:
                with path.open("rb") as kept:
                    write_whole(file, partial(shutil.copyfileobj, kept))
                return
            with self._fetched_base(beside, place=place, trouble="were not kept") as base_path:
                write_joined(file, [base_path, path], without=_BASE)

    def has(self, configuration: Configuration) -> bool:
        """Return whether the file of a configuration is here. Raises: OSError if that cannot be known."""
        name = self.name_of(configuration)
        return name in self.folder.names(name)

    @contextmanager
    def fetched(self, configuration: Configuration) -> Iterator[Path]:
        """Return the file of a configuration, on this machine as long as the context lasts.

        Raises: ModelError if it is not here; OSError if it cannot be read.
        """
        if not self.has(configuration):
            raise ModelError(
                f"there are no weights of configuration {configuration.number} in {self.folder}: the search ran "
                f"elsewhere, could not write them, or took its score over from an audit, whose study may have them; name "
                f"its folder of runs, or train the configuration again."
            )
        with self.folder.fetched(self.name_of(configuration)) as path:
            yield path

    def existing(self, configuration: Configuration) -> Path:
        """Return the file of a configuration. Raises: ModelError if it is not here, or not on this machine."""
        with self.fetched(configuration) as path:
            if not isinstance(self.folder, LocalFolder):
                raise ModelError(
                    f"the weights are {self.place_of(configuration)}, no file of this machine: load_model reads them, and "
                    f"`frostline best STUDY --runs URL --weights FILE` copies them."
                )
            return path

    def prune(
        self, configurations: Sequence[Configuration], *, has_ended: Callable[[int], bool], kept: Collection[int]
    ) -> None:
        """Delete what was written of those ``configurations`` that have ended in full, but for those that are ``kept``.

        What has not ended by what is known here may have been written by another process.
        """
        for name in self._listed():
            number = name.removeprefix(".").partition("-")[0]
            if not number.isdecimal() or int(number) >= len(configurations):
                continue
            own = self.name_of(configurations[int(number)])
            # A file that is being written has a name that begins like that.
            is_wanted = name == own if has_ended(int(number)) else name.removeprefix(".").startswith(own)
            if is_wanted and (int(number) in kept or not has_ended(int(number))):
                continue
            delete_if_possible(self.folder, name)

    @contextmanager
    def _fetched_base(self, name: str, *, place: str, trouble: str) -> Iterator[Path]:
        """Return the file of a base, on this machine as long as the context lasts.

        Raises: ModelError if it was not kept: the adapters at ``place`` need it, and the ``trouble`` is with it.
        """
        if not self.folder.names(name):
            raise ModelError(
                f"{place} holds adapters, and the weights beside them {trouble}: build the model on the base that it was "
                f"trained with."
            )
        with self.folder.fetched(name) as path:
            yield path

    def _write(self, name: str, write: Callable[[IO[bytes]], object]) -> None:
        with self.folder.new_file(prefix=f".{name}") as new:
            write(new.file)
            new.named(name)

    def _listed(self) -> list[str]:
        try:
            return self.folder.names()
        except OSError as error:
            logger.warning("worse models are not deleted: %s", error)
            return []


def _file_of(base: AdapterBase) -> str:
    return f"base-{base.identity}{SUFFIX}"


def _worked(keep: Callable[[], None], *, what: str) -> bool:
    """Return whether ``keep`` did what it is to do; that it did not is logged."""
    try:
        keep()
    except (FrostlineError, OSError, RuntimeError, TypeError, ValueError) as error:
        logger.warning("%s are not kept: %s", what, " ".join(str(error).split()))
        return False
    return True
