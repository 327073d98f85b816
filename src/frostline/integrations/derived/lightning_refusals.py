"""What a Lightning module, its data and its Trainer may not do if a task is to train it: each refusal is one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule
from lightning.pytorch.callbacks import (
    DeviceStatsMonitor,
    LearningRateMonitor,
    ModelCheckpoint,
    ModelSummary,
    ProgressBar,
)
from lightning.pytorch.core.hooks import DataHooks
from torch import Tensor

from frostline.errors import TaskError
from frostline.integrations.derived.stepping_module import NoTrainer, training_loss
from frostline.training.machine.devices import move_batch
from frostline.training.machine.randomness import seed_generators

_CPU = torch.device("cpu")

# All of these may change what a step does; what they do in the first steps says nothing of the later ones.
_TRAINING_HOOKS = (
    "backward",
    "configure_callbacks",
    "configure_gradient_clipping",
    "lr_scheduler_step",
    "on_after_backward",
    "on_before_backward",
    "on_before_optimizer_step",
    "on_before_zero_grad",
    "on_fit_start",
    "on_train_batch_end",
    "on_train_batch_start",
    "on_train_epoch_end",
    "on_train_epoch_start",
    "on_train_start",
    "optimizer_step",
    "optimizer_zero_grad",
    "setup",
)
_BATCH_HOOKS = ("on_after_batch_transfer", "on_before_batch_transfer", "transfer_batch_to_device")

# They look, and touch nothing.
_LOOKING_CALLBACKS = (DeviceStatsMonitor, LearningRateMonitor, ModelCheckpoint, ModelSummary, ProgressBar)

# Where it trains and what it writes changes no number, or is the search's to say.
_WITHOUT_EFFECT = frozenset(
    {
        "accelerator",
        "barebones",
        "check_val_every_n_epoch",
        "default_root_dir",
        "devices",
        "enable_checkpointing",
        "enable_model_summary",
        "enable_progress_bar",
        "limit_test_batches",
        "limit_predict_batches",
        "log_every_n_steps",
        "logger",
        "num_sanity_val_steps",
        "profiler",
        "val_check_interval",
    }
)
_PLAIN: Mapping[str, tuple[Any, ...]] = {
    "accumulate_grad_batches": (1,),
    "detect_anomaly": (False,),
    "gradient_clip_algorithm": (None, "norm"),
    "num_nodes": (1,),
    "precision": (None, 32, "32", "32-true"),
    "strategy": ("auto",),
}


def gradient_norm(trainer: dict[str, Any]) -> float | None:
    """Return the norm that gradients are clipped to; leave in ``trainer`` what changes numbers.

    Raises: TaskError if among the arguments of the Trainer is one that a task has no word for.
    """
    for callback in _listed(trainer.pop("callbacks", None)):
        if not isinstance(callback, _LOOKING_CALLBACKS):
            _refuse(f"the callback {type(callback).__name__} may change the training: leave it out")
    for name in _WITHOUT_EFFECT & trainer.keys():
        del trainer[name]
    for name, value in trainer.items():
        if name == "gradient_clip_val":
            continue
        if name not in _PLAIN:
            _refuse(f"the trainer is given {name}={value!r}, which a task has no word for: leave it out")
        if value not in _PLAIN[name]:
            allowed = " or ".join(map(repr, _PLAIN[name]))
            _refuse(f"the trainer is given {name}={value!r}, but of a task it is {allowed}: leave it out")
    norm = trainer.get("gradient_clip_val")
    return float(norm) if norm else None


def check_datamodule(datamodule: object) -> None:
    """Raise TaskError if it is no datamodule, or does something to batches on their way."""
    if not isinstance(datamodule, LightningDataModule):
        raise TaskError(f"datamodule is a {type(datamodule).__name__}: give a LightningDataModule.")
    _check_hooks(datamodule, DataHooks, _BATCH_HOOKS)


def check_module(module: LightningModule, monitor: str) -> None:
    """Raise TaskError if a module takes its training into its own hands."""
    if not module.automatic_optimization:
        _refuse(
            f"{type(module).__name__} optimizes by itself, but a task makes one step a batch: set automatic_optimization"
        )
    for name in ("training_step", "validation_step"):
        if getattr(type(module), name) is getattr(LightningModule, name):
            _refuse(
                f"{type(module).__name__} has no {name}, but a task trains and is scored by both (on {monitor})"
            )
    _check_hooks(module, LightningModule, (*_TRAINING_HOOKS, *_BATCH_HOOKS))


def check_step(module: LightningModule, batch: Any) -> None:
    """Raise TaskError if a step on a real batch depends on anything but the module and the batch: found by making steps.

    The module is used up. Generators must be borrowed.
    """
    module.trainer = NoTrainer()
    # Logging needs a Trainer.
    module.log = module.log_dict = _nothing
    module.train()
    state = {name: value.clone() for name, value in module.state_dict().items()}
    first, *others = (_stepped(module, state, batch, index) for index in (0, 0, 1, 1000))
    for (loss, gradients), what in zip(others, ("made again", "of batch_idx 1", "of batch_idx 1000"), strict=True):
        if not torch.equal(first[0], loss) or any(
            not torch.equal(gradients[name], first[1][name]) for name in gradients
        ):
            _refuse(
                f"a training_step {what} gives a loss of {float(loss):.7g} in the place of {float(first[0]):.7g}, or other "
                f"gradients, but a task's depends on the weights and the batch alone: let it"
            )


def _stepped(
    module: LightningModule, state: Mapping[str, Tensor], batch: Any, batch_idx: int
) -> tuple[Tensor, dict[str, Tensor]]:
    module.load_state_dict(state)
    module.zero_grad()
    seed_generators(0, _CPU)
    loss = training_loss(module, move_batch(batch, _CPU, copy=True), batch_idx)
    loss.backward()  # type: ignore[no-untyped-call]
    changed = next((name for name, each in module.named_parameters() if not torch.equal(each, state[name])), None)
    if changed is not None:
        _refuse(
            f"training_step itself changes {changed}, but of a task only the optimizer changes weights: let it not"
        )
    gradients = {name: each.grad.clone() for name, each in module.named_parameters() if each.grad is not None}
    return loss.detach(), gradients


def _check_hooks(owner: object, base: type, names: tuple[str, ...]) -> None:
    for name in names:
        own = vars(owner).get(name, getattr(type(owner), name, None))
        if own is not None and own is not getattr(base, name, None):
            _refuse(f"{type(owner).__name__} has a {name} of its own, which may change the training: leave it out")


def _listed(callbacks: Any) -> list[Callback]:
    if callbacks is None:
        return []
    return list(callbacks) if isinstance(callbacks, list | tuple) else [callbacks]


def _nothing(*_: Any, **__: Any) -> None:
    pass


def _refuse(reason: str) -> NoReturn:
    raise TaskError(f"{reason}, or tune it as trials, with frostline.integrations.lightning.tune.")
