"""A Lightning module that is called by the name of a step: what a task trains, and scores, where Lightning has a Trainer."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, NoReturn

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from frostline.errors import TaskError

TRAINING, VALIDATION = "training_step", "validation_step"

# What a module may ask of a Trainer, because it is the same for every training of a task.
_FACTS = {
    "world_size": 1,
    "num_devices": 1,
    "num_nodes": 1,
    "global_rank": 0,
    "local_rank": 0,
    "is_global_zero": True,
    "sanity_checking": False,
    "logger": None,
    "loggers": (),
}


class NoTrainer:
    """Stands where the Trainer would: what it would have to make up it refuses."""

    def __getattr__(self, name: str) -> Any:
        if name in _FACTS:
            return _FACTS[name]
        if name.startswith("__"):
            raise AttributeError(name)
        return _refuse(
            f"a step reads {name} of the Trainer, which a task's trainings do not have: a step may depend on the module and "
            f"its batch alone"
        )


_NO_TRAINER = NoTrainer()


def let_step(module: LightningModule, *, monitor: str) -> LightningModule:
    """Return ``module``, which is from now on called by a step's name and a batch, and returns the loss or ``monitor``.

    Inside a step it is called as ever. Its class is a new one of the same name, and copies of it are of that too.
    """
    kind: Any = type(module)

    # An instance's own forward would hold the module that holds it, and memory would wait for the garbage collector.
    class Stepping(kind):
        def forward(self, *inputs: Any, **named: Any) -> Any:
            if self._frostline_step is not None:
                return super().forward(*inputs, **named)
            step, batch = inputs
            return _run(self, step, batch, monitor)

        def log(self, name: str, value: Any, *_: Any, reduce_fx: Any = "mean", **__: Any) -> None:
            if self._frostline_step == VALIDATION and name == monitor:
                _check_logged(name, value, reduce_fx)
                self._frostline_logged = value

        def log_dict(self, dictionary: Mapping[str, Any], *_: Any, **named: Any) -> None:
            for name, value in dictionary.items():
                self.log(name, value, **named)

    for attribute in ("__name__", "__qualname__", "__module__", "__doc__"):
        setattr(Stepping, attribute, getattr(kind, attribute))
    module.__class__ = Stepping
    module._frostline_step = None
    module._frostline_logged = None
    return module


def training_loss(module: LightningModule, batch: Any, batch_idx: int = 0) -> Tensor:
    """Return the loss of a training step. Raises: TaskError if it returns none."""
    returned = _call(module.training_step, batch, batch_idx)
    loss = returned.get("loss") if isinstance(returned, Mapping) else returned
    if not isinstance(loss, Tensor) or loss.dim() != 0:
        _refuse(
            f"training_step returned a {type(returned).__name__}, but a task needs the loss of every batch, one number"
        )
    return loss


def _run(module: Any, step: str, batch: Any, monitor: str) -> Tensor:
    # Lightning takes the Trainer off a module that is copied.
    if module._trainer is None:
        module.trainer = _NO_TRAINER
    module._frostline_step, module._frostline_logged = step, None
    try:
        if step == TRAINING:
            return training_loss(module, batch)
        _call(module.validation_step, batch, 0)
        logged = module._frostline_logged
    finally:
        module._frostline_step, module._frostline_logged = None, None
    if logged is None:
        _refuse(f"validation_step logs no {monitor}, but that is the score of a task")
    return torch.as_tensor(logged)


def _call(step: Any, batch: Any, batch_idx: int) -> Any:
    takes_index = len(inspect.signature(step).parameters) > 1
    return step(batch, batch_idx) if takes_index else step(batch)


def _check_logged(name: str, value: Any, reduce_fx: Any) -> None:
    if not isinstance(value, Tensor | int | float):
        _refuse(
            f"{name} is logged as a {type(value).__name__}, but a task's score is the mean over batches of a number: log "
            f"what the batch has"
        )
    if reduce_fx not in ("mean", torch.mean):
        _refuse(f"{name} is logged with reduce_fx={reduce_fx!r}, but a task's score is the mean over batches")


def _refuse(reason: str) -> NoReturn:
    raise TaskError(f"{reason}; or tune it as trials, with frostline.integrations.lightning.tune.")
