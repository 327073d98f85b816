"""Trainings kept on disk, so that a promotion to more samples goes on where the rung below ended."""

from __future__ import annotations

import hashlib
import json
import logging
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import torch
from torch import Tensor

from frostline.atomic import UnnamedFile
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
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with UnnamedFile(self.directory, prefix=key.stem) as written:
                _write(checkpoint, written.file)
                written.named(self.directory / f"{key.stem}.{_hash_of(written.file)}.pt")
        except (OSError, RuntimeError, TypeError, AttributeError, pickle.PicklingError) as error:
            # A full disk raises RuntimeError in torch's file writer (torch 2.13); the last three are a model's own state.
            reason = " ".join(str(error).split())
            logger.warning("%s: no checkpoint in %s: %s", key.stem, self.directory, reason)
            return False
        return True

    def load(self, key: CheckpointKey) -> Checkpoint | None:
        """Return the checkpoint of ``key``, on the CPU; None if there is none, or none that is whole."""
        for path in self._files(f"{key.stem}.*.pt"):
            try:
                with path.open("rb") as file:
                    is_whole = path.name == f"{key.stem}.{_hash_of(file)}.pt"
                if is_whole:
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


def _write(checkpoint: Checkpoint, file: IO[bytes]) -> None:
    contents = {
        "samples_seen": checkpoint.samples_seen,
        "curve": [(point.samples, point.score) for point in checkpoint.curve],
        "model": dict(checkpoint.model),
        "optimizer": dict(checkpoint.optimizer),
    }
    # Given a path, torch would write the file's name into it: equal contents would no longer be equal bytes.
    torch.save(contents, file)


def _read(path: Path) -> Checkpoint:
    contents = torch.load(path, map_location="cpu", weights_only=True)
    return Checkpoint(
        samples_seen=contents["samples_seen"],
        curve=tuple(CurvePoint(samples, score) for samples, score in contents["curve"]),
        model=contents["model"],
        optimizer=contents["optimizer"],
    )


def _hash_of(file: IO[bytes]) -> str:
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()[:32]  # type: ignore[arg-type]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
