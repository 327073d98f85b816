"""A Trainer of transformers as a task: its model's own loss, its optimizer and schedule, its examples."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any, Unpack

import torch
from torch import nn
from transformers import Trainer

from frostline.integrations.derived.factory_reads import (
    refuse_other_optimizers,
    refuse_reads_of_optimizer,
    watched,
)
from frostline.integrations.derived.loaded_examples import LoadedExamples, examples_of
from frostline.integrations.derived.loss_model import count_of, let_return_loss
from frostline.integrations.derived.own_fields import TaskFields, first_of, refuse_contradictions
from frostline.integrations.derived.rehearsal import rehearse
from frostline.integrations.derived.transformers_refusals import check_trainer
from frostline.integrations.derived.transformers_steps import (
    NUM_VALIDATION_BATCHES,
    SCORE,
    TrainerParts,
    parts_of,
    quietly_borrowed,
    steps_of_trainer,
)
from frostline.records import Configuration, Value
from frostline.training.supervised.supervised_task import SupervisedTask

if TYPE_CHECKING:
    from frostline.search.spaces.space import SearchSpace


def task_from_trainer(
    make_trainer: Callable[[Configuration], Trainer],
    *,
    space: SearchSpace,
    samples: int,
    samples_per_example: int = 1,
    defaults: Mapping[str, Value] | None = None,
    **fields: Unpack[TaskFields],
) -> SupervisedTask:
    """Return the task of training a Trainer's model by its own loss, with its optimizer, schedule and examples.

    ``make_trainer(configuration)`` returns the trainer. What it reads of the configuration (a dropout) needs a value in
    ``defaults``; the optimizer's hyperparameters it must not read: they are searched by their full names, and what the
    ``TrainingArguments`` have for them is the default. A full training is one on ``samples`` samples, of which each example
    holds ``samples_per_example``. The score is the loss on ``eval_dataset``. ``fields`` are those of ``SupervisedTask``.

    A few steps are made by the task and by the Trainer, and compared. The order of the examples is the task's: every batch
    is full, across the ends of epochs.
    Raises: TaskError if a training does anything that a task would not, with what was found and what to do.
    """
    values = dict(defaults or {})

    def make(values: Mapping[str, Value]) -> Trainer:
        return make_trainer(Configuration(number=0, hyperparameters=values))

    trainer, reads = watched(make_trainer, values)
    check_trainer(trainer)
    device = trainer.args.device
    num_steps = samples / (samples_per_example * trainer.args.train_batch_size)
    with quietly_borrowed(device), tempfile.TemporaryDirectory(prefix="frostline-") as folder:
        training, validation = _examples(trainer)
        count = count_of(trainer, training.batch([0]))

        # A function of the name and the file of ``make_trainer``: whether it was mended is told by these.
        @wraps(make_trainer)
        def model(configuration: Configuration) -> nn.Module:
            built: nn.Module = let_return_loss(make_trainer(configuration).model, count)
            return built.cpu()

        found = parts_of(make(values), num_steps=num_steps)
        refuse_reads_of_optimizer(reads, found.settings, function="the function")
        refuse_other_optimizers(
            lambda changed: parts_of(make(changed), num_steps=num_steps),
            found,
            values,
            space=space,
            reads=reads,
            function="the function",
        )
        refuse_contradictions(values, found.settings)
        task = SupervisedTask(
            model=model,
            training_data=training,
            validation_data=validation,
            loss_function=first_of,
            score_function=first_of,
            space=space,
            full_samples=samples,
            samples_per_example=samples_per_example,
            defaults={**found.settings.told(set(space.distributions) - set(values)), **values},
            optimizer=found.settings.kind,
            schedule=found.schedule.as_field(),
            metric=SCORE,
            batch_size=trainer.args.train_batch_size,
            validation_batch_size=trainer.args.eval_batch_size,
            gradient_clip_norm=trainer.args.max_grad_norm or None,
            undecayed=found.settings.undecayed,
            data_fingerprint=_identity(trainer, training, validation, found),
            **{"name": type(trainer.model).__name__, "num_workers": training.num_workers, **fields},  # type: ignore[arg-type]
        )
        rehearsed = rehearse(
            task, num_validation_batches=NUM_VALIDATION_BATCHES, device=device, fused=found.settings.fused
        )
        others = steps_of_trainer(make(values), rehearsed, num_steps=num_steps, folder=folder)
    rehearsed.compare(
        others,
        trainer="transformers' Trainer",
        instead="frostline.integrations.transformers.tune_trainer",
    )
    return task


def _examples(trainer: Trainer) -> tuple[LoadedExamples, LoadedExamples]:
    """Return those of training and of evaluation; in which order the Trainer draws them its arguments have said."""
    loaders = (
        (trainer.get_train_dataloader(), "training", True),
        (trainer.get_eval_dataloader(), "evaluation", False),
    )
    training, validation = (
        examples_of(loader, which, form=dict, shuffles=shuffles, checks_sampler=False)
        for loader, which, shuffles in loaders
    )
    return training, validation


def _identity(trainer: Trainer, training: LoadedExamples, validation: LoadedExamples, found: TrainerParts) -> str:
    """Return what tells this task from others beside what every task says of itself."""
    model: Any = trainer.model
    kind = type(model)
    config: Any = getattr(model, "config", None)
    told = config.to_json_string() if hasattr(config, "to_json_string") else ""
    return (
        f"{kind.__module__}.{kind.__qualname__} {told} {training.identity()} {validation.identity()} "
        f"{found.schedule.digest} {torch.get_default_dtype()}"
    )
