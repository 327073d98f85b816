"""Checkpoints that nobody has to download: trained here once, by a task at its defaults, and kept in the cache."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from frostline.atomic import write_whole
from frostline.errors import OptionError, TaskError
from frostline.records import Configuration, Fidelity, Progress
from frostline.tasks.data.tokenization import cache_directory
from frostline.training.course import TrainingSettings
from frostline.training.files.model_files import SUFFIX
from frostline.training.machine.devices import DevicePlan
from frostline.training.machine.threads import Threads
from frostline.training.serial import train_model
from frostline.training.supervised.supervised_task import SupervisedTask
from frostline.training.supervised.task_layers import layers_of

logger = logging.getLogger(__name__)

# A new number here makes the checkpoints of an older way of training unused.
_RECIPE = "pretrained 1"
_SECONDS_BETWEEN_LINES = 10.0
_HASH = "frostline.sha256"
_NOT_THERE = "it is not there"


def own_checkpoint(task: SupervisedTask) -> Path:
    """Return the file with the model of ``task``, trained in full at its defaults: made now, unless it was before.

    It lies in the cache (``FROSTLINE_CACHE``) under a hash of all that makes it: the task's fingerprint, with data, model,
    budget and defaults, and how it is trained here, by one thread of the CPU. Of several processes one makes it and the
    others wait; a file that is not whole is made again. What is under way is logged as a warning, as it takes time.
    Raises: TaskError if there is no folder that it could be kept in.
    """
    folder = cache_directory()
    if folder is None:
        raise TaskError(
            f"there is no folder to keep the checkpoint of {task.name} in: name one in FROSTLINE_CACHE."
        )
    key = hashlib.sha256(f"{_RECIPE} {task.fingerprint}".encode()).hexdigest()[:32]
    path = folder / f"{task.name}-{key}{SUFFIX}"
    if _fault_of(path) is None:
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_suffix(".lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            logger.warning("%s is pretrained by another process: waiting for it", task.name)
            lock.acquire()
        try:
            fault = _fault_of(path)
            if fault not in (None, _NOT_THERE):
                logger.warning("the checkpoint %s is damaged and is made again: %s", path, fault)
            if fault is not None:
                _make(task, path)
        finally:
            lock.release()
    except (OSError, OptionError) as error:
        raise TaskError(
            f"the checkpoint of {task.name} cannot be kept in {folder} ({_reason(error)}): name another folder in "
            f"FROSTLINE_CACHE."
        ) from error
    return path


def _make(task: SupervisedTask, path: Path) -> None:
    """Train the task's model and write it, whole or not at all."""
    logger.warning("%s is pretrained, once: it is kept in %s", task.name, path)
    settings = TrainingSettings(device_plan=DevicePlan(device=torch.device("cpu")), root_seed=0, num_validations=1)
    _, model = train_model(
        task,
        Configuration(number=0, hyperparameters=dict(task.defaults)),
        Fidelity(trainable_layers=layers_of(task).num_layers, samples=task.full_samples),
        settings,
        # Of several threads the sums differ in their last bits, and a checkpoint made anew would be another one.
        threads=Threads(most=1, is_measured=False),
        observe=_lines_of(task.name),
    )
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    # One entry alone: safetensors (0.8) writes several in another order every time, and the file's hash tells tasks apart.
    write_whole(path, save(tensors, metadata={_HASH: _hash_of(tensors)}))


def _lines_of(name: str) -> Callable[[Progress], None]:
    """Return what logs, now and then, how far a training is."""
    said = time.monotonic()

    def observe(progress: Progress) -> None:
        nonlocal said
        if time.monotonic() - said >= _SECONDS_BETWEEN_LINES:
            said = time.monotonic()
            logger.warning("%s is pretrained: %.0f %%", name, 100 * progress.samples / progress.budget)

    return observe


def _fault_of(path: Path) -> str | None:
    """Return why ``path`` does not hold the tensors that were written there, to the last bit; None if it does."""
    try:
        with safe_open(path, framework="pt") as file:
            written: Mapping[str, str] = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
    except FileNotFoundError:
        return _NOT_THERE
    except (OSError, SafetensorError) as error:
        return _reason(error)
    return None if written.get(_HASH) == _hash_of(tensors) else "its tensors have another hash"


def _hash_of(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _reason(error: BaseException) -> str:
    """Return why something failed, on one line."""
    words = (isinstance(error, OSError) and error.strerror) or str(error)
    return " ".join(words.split()).removesuffix(".")
