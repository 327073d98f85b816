"""A Lightning module as a task: what it trains, on what, and by which steps, so that populations, costs and audits apply."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Any, Unpack

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch.utils.data import DataLoader

from frostline.errors import TaskError
from frostline.integrations.derived.factory_reads import (
    refuse_other_optimizers,
    refuse_reads_of_optimizer,
    watched,
)
from frostline.integrations.derived.lightning_refusals import (
    check_datamodule,
    check_module,
    check_step,
    gradient_norm,
)
from frostline.integrations.derived.lightning_steps import (
    NUM_VALIDATION_BATCHES,
    Length,
    Observed,
    observed,
    steps_of,
)
from frostline.integrations.derived.loaded_examples import LoadedExamples, examples_of
from frostline.integrations.derived.own_fields import TaskFields, first_of, refuse_contradictions
from frostline.integrations.derived.rehearsal import rehearse
from frostline.integrations.derived.stepping_module import TRAINING, VALIDATION, let_step
from frostline.records import Configuration, Value
from frostline.training.machine.randomness import borrowed_generators
from frostline.training.supervised.supervised_task import SupervisedTask

if TYPE_CHECKING:
    from frostline.search.spaces.space import SearchSpace

_CPU = torch.device("cpu")
_INSTEAD = "frostline.integrations.lightning.tune"


def task_from_module(
    build: Callable[[Configuration], LightningModule],
    *,
    space: SearchSpace,
    monitor: str,
    samples: int,
    defaults: Mapping[str, Value] | None = None,
    datamodule: LightningDataModule | None = None,
    train_dataloaders: Any = None,
    val_dataloaders: Any = None,
    trainer: Mapping[str, Any] | None = None,
    **fields: Unpack[TaskFields],
) -> SupervisedTask:
    """Return the task of training a Lightning module: its steps, its optimizer and schedule, the loaders' examples.

    ``build(configuration)`` returns the module. What it reads of the configuration (a dropout) needs a value in
    ``defaults``; the optimizer's hyperparameters it must not read: they are searched by their full names, and what
    ``configure_optimizers`` has for them is the default. ``monitor`` names what ``validation_step`` logs that is the score.
    A full training is one on ``samples`` samples. Data are given as to ``Trainer.fit``, ``trainer`` as to ``Trainer``.
    ``fields`` are those of ``SupervisedTask``.

    A few steps are made by the task and by Lightning's Trainer, on the CPU, and compared. The order of the examples is the
    task's: every batch is full, across the ends of epochs.
    Raises: TaskError if a training does anything that a task would not, with what was found and what to do.
    """
    parts = _Parts.of(build, datamodule, train_dataloaders, val_dataloaders, monitor)
    arguments = dict(trainer or {})
    norm = gradient_norm(arguments)
    length = parts.length(samples)
    values = dict(defaults or {})

    def observe(changed: Mapping[str, Value]) -> Observed:
        return observed(parts.module(Configuration(number=0, hyperparameters=changed)), length, arguments)

    with borrowed_generators(_CPU):
        module, reads = watched(parts.module, values)
        check_module(module, monitor)
        check_step(module, parts.training.batch([*range(min(length.batch_size, length.num_examples))]))
        found = observe(values)
        refuse_reads_of_optimizer(reads, found.settings, function="the function")
        refuse_other_optimizers(observe, found, values, space=space, reads=reads, function="the function")
        told = found.settings.told(set(space.distributions) - set(values))
        refuse_contradictions(values, found.settings)
        task = SupervisedTask(
            model=parts.model,
            training_data=parts.training,
            validation_data=parts.validation,
            loss_function=first_of,
            space=space,
            full_samples=samples,
            defaults={**told, **values},
            optimizer=found.settings.kind,
            schedule=found.schedule.as_field(),
            score_function=first_of,
            metric=monitor,
            batch_size=length.batch_size,
            validation_batch_size=parts.validation_batch_size,
            gradient_clip_norm=norm,
            undecayed=found.settings.undecayed,
            data_fingerprint=parts.identity(module, found),
            **{"name": type(module).__name__, "num_workers": parts.training.num_workers, **fields},  # type: ignore[arg-type]
        )
        rehearsed = rehearse(
            task, num_validation_batches=NUM_VALIDATION_BATCHES, device=_CPU, fused=found.settings.fused
        )
        again = parts.module(Configuration(number=0, hyperparameters=values))
        others = steps_of(again, rehearsed, length, arguments, validation=parts.validation_loader, monitor=monitor)
    rehearsed.compare(others, trainer="Lightning's Trainer", instead=_INSTEAD)
    return task


@dataclass(frozen=True, kw_only=True)
class _Parts:
    """A function that makes modules, and the data."""

    build: Callable[[Configuration], LightningModule]
    monitor: str
    training: LoadedExamples
    validation: LoadedExamples
    validation_loader: DataLoader[Any]
    batch_size: int
    steps_per_epoch: int
    model: Callable[[Configuration], LightningModule] = field(init=False)
    """Returns the module of a configuration, to be called by the names of its steps."""

    def __post_init__(self) -> None:
        build, monitor = self.module, self.monitor

        # A function of the name and the file of ``build``: whether it was mended is told by these.
        @wraps(self.build)
        def model(configuration: Configuration) -> LightningModule:
            return let_step(build(configuration), monitor=monitor)

        object.__setattr__(self, "model", model)

    @classmethod
    def of(
        cls,
        build: Callable[[Configuration], LightningModule],
        datamodule: LightningDataModule | None,
        training: Any,
        validation: Any,
        monitor: str,
    ) -> _Parts:
        """Return the parts. Raises: TaskError if the data are none that a task takes."""
        if datamodule is not None:
            check_datamodule(datamodule)
            datamodule.prepare_data()
            datamodule.setup("fit")
            training, validation = datamodule.train_dataloader(), datamodule.val_dataloader()
        return cls(
            build=build,
            monitor=monitor,
            training=examples_of(training, "training", form=_training_inputs, shuffles=True),
            validation=examples_of(validation, "validation", form=_validation_inputs, shuffles=False),
            validation_loader=validation,
            batch_size=training.batch_size,
            steps_per_epoch=len(training),
        )

    @property
    def validation_batch_size(self) -> int:
        """In examples."""
        size = self.validation_loader.batch_size
        assert size is not None, "batches are of a BatchSampler"
        return size

    def length(self, samples: int) -> Length:
        """Return a full training on ``samples``."""
        return Length(
            samples=samples,
            num_examples=len(self.training),
            batch_size=self.batch_size,
            steps_per_epoch=self.steps_per_epoch,
        )

    def module(self, configuration: Configuration) -> LightningModule:
        """Return the module of a configuration, with all its layers. Raises: TaskError if it is none."""
        module = self.build(configuration)
        if not isinstance(module, LightningModule):
            raise TaskError(f"the function returned a {type(module).__name__}: return a LightningModule.")
        module.configure_model()
        return module

    def identity(self, module: LightningModule, found: Observed) -> str:
        """Return what tells this task from others beside what every task says of itself."""
        kind = type(module)
        return (
            f"{kind.__module__}.{kind.__qualname__} {self.training.identity()} {self.validation.identity()} "
            f"{found.schedule.digest} {found.settings.undecayed}"
        )


def _training_inputs(batch: Any) -> tuple[str, Any]:
    return TRAINING, batch


def _validation_inputs(batch: Any) -> tuple[str, Any]:
    return VALIDATION, batch
