"""Trainings kept on disk, so that a promotion to more samples goes on where the rung below ended."""

from __future__ import annotations

import hashlib
import json
import logging
import pickle
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from frostline.folders.folder import delete_if_possible
from frostline.records import Configuration, CurvePoint, Fidelity
from frostline.training.files.best_weights import BestWeights

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from frostline.folders.folder import Folder

Read = TypeVar("Read")

logger = logging.getLogger(__name__)

# Goes into every name: a file of another layout is not found, and so made again.
_LAYOUT = 1

_SUFFIX = ".pt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a training needs to go on: what it changes of the model, the optimizer's state, how far it was."""

    samples_seen: int
    curve: tuple[CurvePoint, ...]
    model: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]
    unsaved: Mapping[str, Any] = field(default_factory=dict)
    """What has changed of the model beside its state dict (``steps.unsaved_state``)."""
    best: BestWeights | None = None
    """Those that it is judged by, if not by its last ones."""

    def contents(self) -> dict[str, Any]:
        """Return what is written: tensors and plain values."""
        return {
            "samples_seen": self.samples_seen,
            "curve": [(point.samples, point.score) for point in self.curve],
            "model": dict(self.model),
            "optimizer": dict(self.optimizer),
            # Most trainings have none of these, and files of earlier versions.
            **({"unsaved": dict(self.unsaved)} if self.unsaved else {}),
            **({} if self.best is None else {"best": self.best.contents()}),
        }

    @classmethod
    def of(cls, contents: Mapping[str, Any]) -> Checkpoint:
        """Return the checkpoint whose ``contents`` these are."""
        return cls(
            samples_seen=contents["samples_seen"],
            curve=tuple(CurvePoint(samples, score) for samples, score in contents["curve"]),
            model=contents["model"],
            optimizer=contents["optimizer"],
            unsaved=contents.get("unsaved", {}),
            best=BestWeights(**contents["best"]) if "best" in contents else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointKey:
    """What a checkpoint is of: a configuration after ``path``, the fidelities it was trained to in turn."""

    configuration: Configuration
    rung: int
    path: tuple[Fidelity, ...]

    @property
    def stem(self) -> str:
        """The file's name, up to its contents: another configuration of the same number gets another."""
        facts = {
            "layout": _LAYOUT,
            "hyperparameters": sorted(
                (name, repr(value)) for name, value in self.configuration.trained_values.items()
            ),
            "path": [(fidelity.trainable_layers, fidelity.samples) for fidelity in self.path],
        }
        return f"{self.configuration.number:06d}-rung{self.rung}-{_digest(json.dumps(facts))}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoints:
    """The checkpoints of one study, in a folder of their own, wherever that lies.

    A file's name holds the hash of its contents, so a truncated or damaged one is known for what it is, deleted
    and never used. Losing one loses time only: ``load`` says None, and the training is made again.
    """

    folder: Folder

    @classmethod
    def of_study(cls, parent: Folder, *, fingerprint: str, root_seed: int, settings: str) -> Checkpoints:
        """Return those below ``parent`` of one task, seed and way of training: no other study's are ever seen."""
        return cls(folder=parent.below(_digest(json.dumps([fingerprint, root_seed, settings]))))

    def save(self, key: CheckpointKey, checkpoint: Checkpoint) -> bool:
        """Write a checkpoint, whole or not at all, and return whether that worked.

        A full disk, a store that does not answer, or a model with a state that cannot be saved, costs the checkpoint and
        not the evaluation: a warning is logged.
        """
        return self.save_contents(key, checkpoint.contents()) is not None

    def save_newer(self, key: CheckpointKey, contents: Mapping[str, Any]) -> bool:
        """Write tensors and plain values of any meaning in the place of what was written under ``key`` before."""
        newest = self.save_contents(key, contents)
        for name in self._names(key) if newest is not None else ():
            if name != newest:
                delete_if_possible(self.folder, name)
        return newest is not None

    def save_contents(self, key: CheckpointKey, contents: Mapping[str, Any]) -> str | None:
        """Write ``contents`` beside what was written under ``key`` before, and return the file's name; see ``save``."""
        try:
            with self.folder.new_file(prefix=key.stem) as new:
                # Given a path, torch would write the file's name into it: equal contents would no longer be equal bytes.
                torch.save(dict(contents), new.file)
                name = f"{key.stem}.{_hash_of(new.file)}{_SUFFIX}"
                new.named(name)
        except (OSError, RuntimeError, TypeError, AttributeError, pickle.PicklingError) as error:
            # A full disk raises RuntimeError in torch's file writer (torch 2.13); the last three are a model's own state.
            reason = " ".join(str(error).split())
            logger.warning("%s: no checkpoint in %s: %s", key.stem, self.folder, reason)
            return None
        return name

    def load(self, key: CheckpointKey) -> Checkpoint | None:
        """Return the checkpoint of ``key``, on the CPU; None if there is none, or none that is whole."""
        return next(self._whole(key, Checkpoint.of), None)

    def has(self, key: CheckpointKey) -> bool:
        """Return whether something lies there under ``key``, whole or not."""
        return bool(self._names(key))

    def keeps_any(self) -> bool:
        """Return whether anything was ever kept; True too if that cannot be known."""
        try:
            return self.folder.exists()
        except OSError:
            return True

    def load_contents(self, key: CheckpointKey) -> Iterator[dict[str, Any]]:
        """Yield all that lies there under ``key`` and is whole, on the CPU, in no order: two files after a kill."""
        return self._whole(key, dict)

    def _whole(self, key: CheckpointKey, read: Callable[[dict[str, Any]], Read]) -> Iterator[Read]:
        for name in self._names(key):
            try:
                with self.folder.fetched(name) as path:
                    with path.open("rb") as file:
                        is_whole = name == f"{key.stem}.{_hash_of(file)}{_SUFFIX}"
                    contents = torch.load(path, map_location="cpu", weights_only=True) if is_whole else None
                if contents is not None:
                    yield read(contents)
                    continue
                self.folder.delete(name)
                reason = "its contents are not what was written"
            except (
                OSError,
                RuntimeError,
                EOFError,
                KeyError,
                TypeError,
                ValueError,
                pickle.UnpicklingError,
            ) as error:
                reason = " ".join(str(error).split())
            logger.warning("%s is not used, the training is made again: %s", self.folder.place_of(name), reason)

    def forget(self, number: int) -> None:
        """Delete the checkpoints of configuration ``number``: it will never be continued."""
        for name in self._listed(f"{number:06d}-"):
            delete_if_possible(self.folder, name)

    def _names(self, key: CheckpointKey) -> list[str]:
        return [name for name in self._listed(f"{key.stem}.") if name.endswith(_SUFFIX)]

    def _listed(self, prefix: str) -> list[str]:
        try:
            return self.folder.names(prefix)
        except OSError as error:
            logger.warning("no checkpoint %s* is found: %s", prefix, error)
            return []


def _hash_of(file: IO[bytes]) -> str:
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()[:32]  # type: ignore[arg-type]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
