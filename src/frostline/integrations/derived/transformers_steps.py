"""What transformers' own Trainer makes of a model: its optimizer and schedule, and a few steps on given batches."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils.data import Subset
from transformers import Trainer, TrainerCallback
from transformers.trainer_callback import DefaultFlowCallback
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from frostline.errors import TaskError
from frostline.integrations.derived.given_batches import given_batches
from frostline.integrations.derived.optimizer_settings import OptimizerSettings, names_of, settings_of
from frostline.integrations.derived.rehearsal import NUM_STEPS, Rehearsed, Steps, copied_state
from frostline.integrations.derived.stepped_schedule import SteppedSchedule, Stepping, schedule_of
from frostline.training.machine.randomness import borrowed_generators

NUM_VALIDATION_BATCHES = 2
SCORE = "eval_loss"


@dataclass(frozen=True, slots=True)
class TrainerParts:
    """What a Trainer trains with."""

    settings: OptimizerSettings
    schedule: SteppedSchedule


def parts_of(trainer: Trainer, *, num_steps: float) -> TrainerParts:
    """Return what a Trainer makes for a training of ``num_steps``. Raises: TaskError if a task has no word for it."""
    model: Any = trainer.model
    makes_optimizer = trainer.optimizer is None
    trainer.create_optimizer_and_scheduler(num_training_steps=max(1, int(num_steps)))
    if trainer.optimizer is None or trainer.lr_scheduler is None:
        raise TaskError("the Trainer made no optimizer and no schedule: give it both, or neither.")
    settings = settings_of(trainer.optimizer, model)
    if makes_optimizer and settings.hyperparameters.get("weight_decay") == 0:
        # Its groups look alike as long as nothing decays; a search may let weights decay.
        decayed = {*trainer.get_decay_parameter_names(model)}
        kept = (each for name, each in model.named_parameters() if name not in decayed)
        settings = replace(settings, undecayed=names_of(kept, model))
    base = settings.hyperparameters["learning_rate"]
    assert isinstance(base, float)
    steppings = [Stepping(trainer.lr_scheduler, 1)]
    return TrainerParts(settings, schedule_of(steppings, trainer.optimizer, base=base, num_steps=num_steps))


def steps_of_trainer(trainer: Trainer, rehearsed: Rehearsed, *, num_steps: float, folder: str) -> Steps:
    """Return what the Trainer makes of the steps that were rehearsed, from the same weights; it writes into ``folder``."""
    model: Any = trainer.model
    model.load_state_dict(rehearsed.initial)
    args = trainer.args
    args.max_steps, args.output_dir = max(1, int(num_steps)), folder
    args.save_strategy, args.logging_strategy = SaveStrategy.NO, IntervalStrategy.NO
    args.eval_strategy, args.push_to_hub = IntervalStrategy.NO, False
    for callback in [*trainer.callback_handler.callbacks]:
        if type(callback) is not DefaultFlowCallback:
            trainer.remove_callback(callback)
    stepping = _Steps(rehearsed)
    trainer.add_callback(stepping)
    loader = given_batches(rehearsed.batches, length=max(NUM_STEPS, len(trainer.get_train_dataloader())))
    losses: list[float] = []
    own_step = trainer.training_step

    def noted_step(*given: Any, **named: Any) -> torch.Tensor:
        loss: torch.Tensor = own_step(*given, **named)
        losses.append(float(loss))
        return loss

    # Of this trainer alone: neither its batches nor the loss of a step have a place where they could be handed over.
    trainer.get_train_dataloader = lambda: loader
    trainer.training_step = noted_step
    trainer.train()
    state = copied_state(model)
    examples: Any = trainer.eval_dataset
    judged = range(min(len(examples), NUM_VALIDATION_BATCHES * args.eval_batch_size))
    metrics = trainer.evaluate(eval_dataset=Subset(examples, judged))
    return Steps(losses=losses, state=state, score=metrics[SCORE])


class _Steps(TrainerCallback):
    """Seeds each step as it was seeded in the rehearsal, and ends after the last one."""

    def __init__(self, rehearsed: Rehearsed) -> None:
        self._rehearsed = rehearsed

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._rehearsed.seed_step(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_training_stop = state.global_step >= len(self._rehearsed.batches)


@contextmanager
def quietly_borrowed(device: torch.device) -> Iterator[None]:
    """Put torch's generators back at the end, and say nothing of trainings that nobody asked for."""
    with borrowed_generators(device), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
