"""Trainings kept on disk, so that a promotion to more samples goes on where the rung below ended."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pickle
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from frostline.records import Configuration, CurvePoint, Fidelity

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

logger = logging.getLogger(__name__)

# Goes into every name: a file of another layout is not found, and so made again.
_LAYOUT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a training needs to go on: the tensors that training changes, the optimizer's state, how far it was."""

    samples_seen: int
    curve: tuple[CurvePoint, ...]
    model: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]


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
    """The checkpoints of one study, in a folder of their own.

    A file's name holds the hash of its contents, so a truncated or damaged one is known for what it is, deleted
    and never used. Losing one loses time only: ``load`` says None, and the training is made again.
    """

    directory: Path

    @classmethod
    def of_study(cls, parent: Path, *, fingerprint: str, root_seed: int, settings: str) -> Checkpoints:
        """Return those below ``parent`` of one task, seed and way of training: no other study's are ever seen."""
        return cls(directory=parent / _digest(json.dumps([fingerprint, root_seed, settings])))

    def save(self, key: CheckpointKey, checkpoint: Checkpoint) -> bool:
        """Write a checkpoint, whole or not at all, and return whether that worked.

        A full disk, or a model with a state that cannot be saved, costs the checkpoint and not the evaluation: a
        warning is logged.
        """
        temporary: Path | None = None
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=f"{key.stem}.", suffix=".tmp", dir=self.directory)
            os.close(handle)
            temporary = Path(name)
            _write(checkpoint, temporary)
            final = self.directory / f"{key.stem}.{_hash_of(temporary)}.pt"
            temporary.replace(final)
            _flush_directory(self.directory)
        except (OSError, RuntimeError, TypeError, AttributeError, pickle.PicklingError) as error:
            # A full disk raises RuntimeError in torch's file writer (torch 2.13); the last three are a model's own state.
            reason = " ".join(str(error).split())
            logger.warning("%s: no checkpoint in %s: %s", key.stem, self.directory, reason)
            if temporary is not None:
                with suppress(OSError):
                    temporary.unlink(missing_ok=True)
            return False
        return True

    def load(self, key: CheckpointKey) -> Checkpoint | None:
        """Return the checkpoint of ``key``, on the CPU; None if there is none, or none that is whole."""
        for path in self._files(f"{key.stem}.*.pt"):
            try:
                if path.name == f"{key.stem}.{_hash_of(path)}.pt":
                    return _read(path)
                path.unlink(missing_ok=True)
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
            logger.warning("%s is not used, the training is made again: %s", path, reason)
        return None

    def forget(self, number: int) -> None:
        """Delete the checkpoints of configuration ``number``: it will never be continued."""
        for path in self._files(f"{number:06d}-*"):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                logger.warning("%s could not be deleted: %s", path, error)

    def _files(self, pattern: str) -> Iterator[Path]:
        # Path.glob yields nothing where there is no directory.
        return iter(sorted(self.directory.glob(pattern)))


def _write(checkpoint: Checkpoint, path: Path) -> None:
    contents = {
        "samples_seen": checkpoint.samples_seen,
        "curve": [(point.samples, point.score) for point in checkpoint.curve],
        "model": dict(checkpoint.model),
        "optimizer": dict(checkpoint.optimizer),
    }
    # Given a path, torch would write the file's name into it: equal contents would no longer be equal bytes.
    with path.open("wb") as file:
        torch.save(contents, file)
        file.flush()
        # The final name must not reach the disk before the contents.
        os.fsync(file.fileno())


def _read(path: Path) -> Checkpoint:
    contents = torch.load(path, map_location="cpu", weights_only=True)
    return Checkpoint(
        samples_seen=contents["samples_seen"],
        curve=tuple(CurvePoint(samples, score) for samples, score in contents["curve"]),
        model=contents["model"],
        optimizer=contents["optimizer"],
    )


def _flush_directory(directory: Path) -> None:
    """Make a rename in ``directory`` outlast a power cut, where directories can be flushed (not on Windows)."""
    if os.name != "posix":
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _hash_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
