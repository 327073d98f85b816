"""What Lightning's ``Trainer`` is told of a trial: a callback that freezes, counts, reports, stops and keeps."""

from __future__ import annotations

import os
import tempfile
import time
import weakref
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint, StochasticWeightAveraging

from frostline.errors import ObjectiveError
from frostline.integrations.best_model import BestModel, final_score
from frostline.integrations.lightning.lightning_trainer import (
    agreed,
    begin_epoch,
    begin_pass,
    called_as,
    length,
    next_examples,
    plain_states,
    reload_as_ever,
    validates_now,
)
from frostline.integrations.trained_parameters import keep_trained
from frostline.objectives.batch_sizes import num_of_loaders
from frostline.objectives.generators import current_states, set_states
from frostline.objectives.pending_checkpoint import SECONDS_BETWEEN_CHECKPOINTS

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

    from frostline.objectives.batch_sizes import Count
    from frostline.objectives.trial import Trial

# Of a checkpoint these are not plain values, or not the training's: the trial makes modules.
_NOT_KEPT = ("hyper_parameters", "hparams_name", "hparams_type", "datamodule_hyper_parameters")

_KEPT = "kept.ckpt"


class TrialCallback(Callback):
    """Lets a Lightning ``Trainer`` train as a trial says: freezes, counts samples, reports ``monitor``, stops, keeps.

    Give it to a trainer of its own among the ``callbacks``, give ``ckpt_path=callback.ckpt_path`` to ``Trainer.fit``, and
    return ``callback.score(trainer)``. However many epochs the trainer was made for, it trains on the rung's samples.
    ``num_samples(batch)`` says how many samples a batch holds, by default the length of its first tensor or array.

    With a ``ModelCheckpoint`` that has a ``monitor`` the best is kept: the score is that of the validation that was best by
    it, of lower rungs of the same training too, and ``score`` leaves the module with those weights. ``best`` is that
    checkpoint; by default it is the trainer's.
    """

    def __init__(
        self,
        trial: Trial,
        *,
        monitor: str,
        num_samples: Count = num_of_loaders,
        best: ModelCheckpoint | None = None,
    ) -> None:
        self._trial = trial
        self._monitor = monitor
        self._num_samples = num_samples
        self._process = os.getpid()
        self._is_path_taken = False
        self._folder = Path(tempfile.mkdtemp(prefix="frostline-"))
        weakref.finalize(self, rmtree, self._folder, ignore_errors=True)
        self._generators: dict[str, Any] | None = (trial.resumed or {}).get("generators")
        self._epoch_states: dict[str, Any] = {}
        self._has_drawn_order = False
        self._num_pending, self._num_steps = 0, 0
        self._num_epochs = -1
        self._file_keepers: set[str] = set()
        self._before_validation: dict[str, Any] | None = None
        self._is_over = False
        self._kept_at = time.monotonic()
        self._best = None if best is None else self._best_by(best)

    # For the objective.

    @property
    def ckpt_path(self) -> str | None:
        """What the training goes on from, for ``Trainer.fit``; None if it begins."""
        self._is_path_taken = True
        if self._trial.resumed is None:
            return None
        path = self._folder / "resumed.ckpt"
        torch.save(self._trial.resumed["checkpoint"], path)
        return str(path)

    def score(self, trainer: Trainer) -> float:
        """Return the last value of ``monitor``, once ``trainer.fit`` has returned.

        Raises: ObjectiveError if nothing was trained with this callback.
        """
        if not self._is_over and self._trained_elsewhere.exists():
            self._take_over(trainer.lightning_module)
        if not self._trial.curve:
            raise ObjectiveError(
                "callback.score came before a score: give the callback to a Trainer, and call its fit before."
            )
        return final_score(self._trial, self._best)

    # What Lightning calls.

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Freeze the model: before its optimizers are made, and before it is handed to other processes."""
        if stage != "fit":
            return
        if self._is_copy:
            self._trial = self._trial.without_search()
        if self._is_copy and not self._trial.trains:
            raise ObjectiveError(
                "a trial that only looks at the objective trains in one process: Trainer(devices=2 if trial.trains else 1)."
            )
        if not self._is_path_taken:
            raise ObjectiveError(
                "the training could not go on from a checkpoint: call trainer.fit(..., ckpt_path=callback.ckpt_path)."
            )
        if next(pl_module.parameters(), None) is None:
            # Lightning says that it may be called several times.
            pl_module.configure_model()
        self._trial.freeze(pl_module)
        pl_module.configure_optimizers = self._with_full_length(trainer, pl_module.configure_optimizers)
        _without_end(trainer)
        if any(isinstance(each, StochasticWeightAveraging) for each in trainer.callbacks):
            raise ObjectiveError(
                "StochasticWeightAveraging ends with weights that were never validated, so that nobody has scored them: use "
                "WeightAveraging or EMAWeightAveraging, or leave it out."
            )
        if self._best is None:
            given = trainer.checkpoint_callbacks
            self._best = next((self._best_by(each) for each in given if keeps_best(each)), None)
        trainer.fit_loop.min_epochs = 0
        trainer.fit_loop.epoch_loop.min_steps = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the optimizers the parameters that are trained: before their states are read from a checkpoint."""
        del pl_module.configure_optimizers
        known = self._trial.parameter_names
        new = next((name for name, _ in pl_module.named_parameters() if name not in known), None)
        if new is not None:
            raise ObjectiveError(
                f"the parameter {new} was made after the model was frozen: make layers in __init__ or configure_model."
            )
        for optimizer in trainer.optimizers:
            keep_trained(optimizer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin with the data where the training stopped."""
        self._num_steps = trainer.global_step
        if self._num_epochs > 0:
            # For whoever asks on the way how far it is; where the trial goes on, the trainer does.
            trainer.fit_loop.max_epochs = max(self._num_epochs, trainer.current_epoch + 1)
        kept = self._generators or {"epoch": current_states(), "num_batches": 0}
        is_within_epoch = kept["num_batches"] > 0
        if self._generators is not None:
            set_states(kept["epoch"])
            reload_as_ever(trainer, is_within_epoch=is_within_epoch)
        self._epoch_states = current_states()
        if is_within_epoch:
            # Lightning leaves it out, but this module and these callbacks have not seen the epoch begin.
            self._begin_again(trainer, pl_module)
        self._has_drawn_order = True
        begin_epoch(trainer, kept["num_batches"])
        if is_within_epoch:
            set_states(kept["now"])

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the random generators with which the order of the data is drawn."""
        if not self._has_drawn_order:
            self._epoch_states = current_states()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let Lightning do at the end of an epoch what it does of one that nobody interrupted."""
        self._has_drawn_order = False
        metrics = trainer.callback_metrics
        followed = [config.monitor for config in trainer.lr_scheduler_configs if config.reduce_on_plateau]
        if all(name in metrics for name in followed):
            # In an epoch that goes on from a checkpoint it leaves such schedules alone: it does not know their metric.
            trainer.fit_loop.restarting = False
        if self._is_over:
            # Others change weights at the end of a training, to their means: what is kept is of before.
            trainer.callbacks = [self, *(each for each in trainer.callbacks if each is not self)]
        elif self._num_epochs > 0:
            trainer.fit_loop.max_epochs = max(self._num_epochs, trainer.current_epoch + 2)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Say that the model begins to run: its training step calls parts of it."""
        begin_pass(pl_module)
        with called_as(pl_module, pl_module.training_step):
            self._trial.will_run(batch, batch_idx)

    def on_validation_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Say that the model begins to run."""
        begin_pass(pl_module)
        if trainer.sanity_checking:
            with called_as(pl_module, pl_module.validation_step):
                self._trial.will_run(batch, batch_idx)

    def on_test_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Say that the model begins to run."""
        begin_pass(pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the step, keep a checkpoint now and then, and stop where the rung ends: rank 0 decides for all."""
        self._num_pending += self._num_samples(batch) * trainer.world_size
        if pl_module.automatic_optimization and trainer.global_step == self._num_steps:
            return  # gradients are still accumulated
        self._num_steps = trainer.global_step
        has_room = self._trial.count(self._num_pending) or self._has_room_for_last(trainer, batch_idx + 1)
        self._num_pending = 0
        is_due = time.monotonic() - self._kept_at >= SECONDS_BETWEEN_CHECKPOINTS and not self._is_copy
        self._is_over, is_due = agreed(trainer, (not has_room or self._trial.should_prune(), is_due))
        # Behind the last batch of an epoch validation and schedules still follow.
        if (self._is_over or is_due) and not trainer.is_last_batch:
            self._keep(trainer, num_batches=batch_idx + 1)
        if self._is_over:
            if not validates_now(trainer):
                self._before_validation = current_states()
            trainer.should_stop = True
            # The rung's score is measured at its end, whether an epoch ends there or not.
            trainer.check_val_every_n_epoch = 1

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the score."""
        metrics = trainer.callback_metrics
        if self._before_validation is not None:
            # Whether a rung ends here changes nothing in a training, which may go on from here.
            set_states(self._before_validation)
        if trainer.sanity_checking or self._monitor not in metrics:
            return
        self._report(trainer)
        if self._best is not None and self._best.metric in metrics and self._trial.samples_seen > 0:
            value, score = (float(metrics[name]) for name in (self._best.metric, self._monitor))
            self._best.note(value, score=score, model=pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the last score, where it is not one of validation."""
        metrics = trainer.callback_metrics
        if self._monitor not in metrics:
            raise ObjectiveError(
                f"monitor is {self._monitor!r}, but the module logs {', '.join(sorted(metrics)) or 'nothing'}: call "
                f"self.log({self._monitor!r}, ...) in validation_step, or monitor one of these."
            )
        curve = self._trial.curve
        if not curve or curve[-1].samples != self._trial.samples_seen:
            self._report(trainer)
        if self._is_over and trainer.is_last_batch:
            self._epoch_states = current_states()
            self._keep(trainer, num_batches=0)
        elif self._is_over and self._best is not None and not self._is_copy:
            # What was kept behind the last batch does not know yet how that was scored.
            self._trial.checkpoint(self._state_at(self._folder / _KEPT))
        if self._is_copy and trainer.is_global_zero:
            self._hand_back()

    # Several processes: the trainer sends copies of itself, and of this, to them.

    @property
    def _is_copy(self) -> bool:
        return os.getpid() != self._process

    @property
    def _trained_elsewhere(self) -> Path:
        return self._folder / "trained.pt"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_trial": self._trial.without_search()}

    def _hand_back(self) -> None:
        """Leave what this process knows of the training to the one that began it."""
        curve = [(point.samples, point.score) for point in self._trial.curve]
        trained = {
            "curve": curve,
            "samples_seen": self._trial.samples_seen,
            "is_over": self._is_over,
            "state": self._state_at(self._folder / _KEPT) if self._is_over else {},
        }
        torch.save(trained, self._trained_elsewhere)

    def _take_over(self, module: LightningModule) -> None:
        """Learn what was trained in other processes, whose weights Lightning has put into the model here."""
        trained = torch.load(self._trained_elsewhere, weights_only=True)
        if not trained["is_over"]:
            raise ObjectiveError(
                f"the training ended after {trained['samples_seen']:,} samples: leave early stopping to the rungs."
            )
        self._trial.freeze(module)
        self._trial.count(trained["samples_seen"] - self._trial.samples_seen)
        for samples, score in trained["curve"]:
            self._trial.report(score, samples=samples)
        self._trial.checkpoint(trained["state"])
        if "best" in trained["state"]:
            # It is chosen from no more, by whatever metric.
            self._best = BestModel(self._monitor, greater_is_better=False, kept=trained["state"]["best"])

    # Parts.

    def _begin_again(self, trainer: Trainer, module: LightningModule) -> None:
        for callback in trainer.callbacks:
            if callback is not self:
                callback.on_train_epoch_start(trainer, module)
        module.on_train_epoch_start()

    def _has_room_for_last(self, trainer: Trainer, num_batches: int) -> bool:
        """Return whether the step after so many batches of an epoch is known to be smaller, and small enough."""
        if self._num_samples is not num_of_loaders:
            return False
        coming = next_examples(trainer, num_batches)
        return coming is not None and self._trial.samples_seen + coming <= self._trial.samples

    def _report(self, trainer: Trainer) -> None:
        if self._trial.samples_seen > 0:
            self._trial.report(float(trainer.callback_metrics[self._monitor]))

    def _keep(self, trainer: Trainer, *, num_batches: int) -> None:
        """Keep the training, so many batches into an epoch."""
        path = self._folder / _KEPT
        self._generators = {"epoch": self._epoch_states, "now": current_states(), "num_batches": num_batches}
        self._file_keepers = {each.state_key for each in trainer.checkpoint_callbacks}
        trainer.save_checkpoint(path)
        self._kept_at = time.monotonic()
        if trainer.is_global_zero and not self._is_copy:
            self._trial.checkpoint(self._state_at(path))

    def _state_at(self, path: Path) -> dict[str, Any]:
        # Written by this process, or one that it began.
        checkpoint = torch.load(path, map_location="cpu", weights_only=False)
        kept = {name: value for name, value in checkpoint.items() if name not in _NOT_KEPT}
        kept["callbacks"] = plain_states(checkpoint["callbacks"], without=self._file_keepers)
        best = {} if self._best is None else {"best": self._best.contents()}
        return {"checkpoint": kept, "generators": self._generators, **best}

    def _best_by(self, checkpoint: ModelCheckpoint) -> BestModel:
        kept = (self._trial.resumed or {}).get("best")
        return BestModel(f"{checkpoint.monitor}", greater_is_better=checkpoint.mode == "max", kept=kept)

    def _with_full_length(self, trainer: Trainer, configure: Callable[[], Any]) -> Callable[[], Any]:
        """Return ``configure_optimizers`` for which the trainer is as long as a full training: rungs cut schedules short."""

        @wraps(configure)
        def configure_optimizers() -> Any:
            trainer.fit_loop.setup_data()
            num_steps, self._num_epochs = length(trainer, self._trial.full_samples)
            trainer.fit_loop.epoch_loop.max_steps, trainer.fit_loop.max_epochs = num_steps, self._num_epochs
            try:
                return configure()
            finally:
                _without_end(trainer)

        return configure_optimizers


def keeps_best(callback: object) -> TypeGuard[ModelCheckpoint]:
    """Return whether a callback keeps the checkpoint that is best by a metric."""
    return isinstance(callback, ModelCheckpoint) and callback.monitor is not None and callback.save_top_k != 0


def _without_end(trainer: Trainer) -> None:
    """Let the trainer go on until it is stopped: samples say when a rung ends, and a last batch may be smaller."""
    trainer.fit_loop.max_epochs = -1
    trainer.fit_loop.epoch_loop.max_steps = -1
