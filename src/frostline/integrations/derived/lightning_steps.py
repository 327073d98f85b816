"""What Lightning's own Trainer makes of a module: its optimizer and schedule, and a few steps on given batches."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from frostline.errors import FrostlineError, TaskError
from frostline.inputs.foreign_errors import foreign_error
from frostline.integrations.derived.given_batches import given_batches
from frostline.integrations.derived.optimizer_settings import OptimizerSettings, only_one, settings_of
from frostline.integrations.derived.rehearsal import Rehearsed, Steps, copied_state
from frostline.integrations.derived.stepped_schedule import SteppedSchedule, Stepping, schedule_of
from frostline.process import only_warnings
from frostline.training.machine.randomness import borrowed_generators

NUM_VALIDATION_BATCHES = 2
_CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class Length:
    """A full training, as Lightning counts it."""

    samples: int
    num_examples: int
    batch_size: int
    steps_per_epoch: int

    @property
    def num_steps(self) -> float:
        """The steps of whole batches, and the part of one that is left over."""
        return self.samples / self.batch_size

    @property
    def arguments(self) -> dict[str, int]:
        """What a Trainer is given."""
        # As many as those steps take: a last batch that is smaller, or left out, is a whole one here.
        epochs = math.ceil(self.num_steps / self.steps_per_epoch)
        return {"max_epochs": epochs, "max_steps": max(1, int(self.num_steps))}


@dataclass(frozen=True, slots=True)
class Observed:
    """What a module trains with."""

    settings: OptimizerSettings
    schedule: SteppedSchedule


def observed(module: LightningModule, length: Length, trainer: Mapping[str, Any]) -> Observed:
    """Return what the Trainer finds at the beginning of a training, and end that there."""
    observing = _Observing(length)
    with _quiet():
        fitting = _trainer({**trainer, **length.arguments}, observing)
        _fit(fitting, module, given_batches([None], length=length.steps_per_epoch))
    assert observing.found is not None, "on_train_start comes before the end"
    return observing.found


def steps_of(
    module: LightningModule,
    rehearsed: Rehearsed,
    length: Length,
    trainer: Mapping[str, Any],
    *,
    validation: Any,
    monitor: str,
) -> Steps:
    """Return what the Trainer makes of the steps that were rehearsed, from the same weights."""
    module.load_state_dict(rehearsed.initial)
    stepping = _Steps(rehearsed)
    batches = [batch for _, batch in rehearsed.batches]
    with _quiet():
        fitting = _trainer({**trainer, **length.arguments}, stepping)
        _fit(fitting, module, given_batches(batches, length=length.steps_per_epoch))
        state = copied_state(module)
        judging = _trainer({"limit_val_batches": NUM_VALIDATION_BATCHES}, Callback())
        (metrics, *_) = judging.validate(module, validation, verbose=False) or [{}]
    return Steps(losses=stepping.losses, state=state, score=float(metrics.get(monitor, math.nan)))


class _Observing(Callback):
    """Looks at what is to be trained, and ends the training before its first step."""

    def __init__(self, length: Length) -> None:
        self.found: Observed | None = None
        self._length = length

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        optimizer = only_one(trainer.optimizers)
        settings = settings_of(optimizer, pl_module)
        steppings = []
        for config in trainer.lr_scheduler_configs:
            every = config.frequency * (1 if config.interval == "step" else self._length.steps_per_epoch)
            if config.reduce_on_plateau:
                raise TaskError(
                    f"{type(config.scheduler).__name__} follows {config.monitor or 'a metric'}, but a task's schedule is a "
                    f"function of the steps: take another one, or tune it as trials."
                )
            steppings.append(Stepping(config.scheduler, every))
        base = settings.hyperparameters["learning_rate"]
        assert isinstance(base, float)
        schedule = schedule_of(steppings, optimizer, base=base, num_steps=self._length.num_steps)
        self.found = Observed(settings, schedule)
        _end(trainer)


class _Steps(Callback):
    """Seeds each step as it was seeded in the rehearsal, notes its loss, and ends after the last one."""

    def __init__(self, rehearsed: Rehearsed) -> None:
        self.losses: list[float] = []
        self._rehearsed = rehearsed

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._rehearsed.seed_step(len(self.losses))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = outputs["loss"] if isinstance(outputs, Mapping) else outputs
        self.losses.append(math.nan if loss is None else float(loss))
        if len(self.losses) == len(self._rehearsed.batches):
            _end(trainer)


def _fit(trainer: Trainer, module: LightningModule, loader: Any) -> None:
    try:
        trainer.fit(module, loader)
    except FrostlineError:
        raise
    except Exception as error:
        raise TaskError(
            f"Lightning's Trainer cannot train {type(module).__name__}: {foreign_error(error)}; mend that, or tune it as "
            f"trials, with frostline.integrations.lightning.tune."
        ) from error


def _end(trainer: Trainer) -> None:
    trainer.fit_loop.min_epochs = 0
    trainer.fit_loop.epoch_loop.min_steps = None
    trainer.should_stop = True


def _trainer(arguments: Mapping[str, Any], callback: Callback) -> Trainer:
    # On the CPU: what is compared are numbers, and both halves have to compute them alike.
    usual: dict[str, Any] = {"limit_val_batches": 0, "num_sanity_val_steps": 0}
    return Trainer(
        **{**usual, **arguments},
        accelerator="cpu",
        devices=1,
        logger=False,
        callbacks=[callback],
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    with borrowed_generators(_CPU), only_warnings("lightning.pytorch"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a training that nobody asked for
        yield
