"""What a Lightning ``Trainer`` has to be told beside its hooks: passes, steps, schedules, the place in the data."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lightning.pytorch.utilities import CombinedLoader

from frostline.layers import freezing_of

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer


def num_steps(trainer: Trainer, samples: int) -> int:
    """Return how many steps go through so many samples, rounded up; -1 if nobody knows how many an epoch has."""
    loaders = CombinedLoader(trainer.train_dataloader).flattened
    try:
        per_epoch = max(len(loader.dataset) for loader in loaders)
    except (AttributeError, TypeError):
        return -1
    steps_per_epoch: int = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
    return math.ceil(samples / per_epoch * steps_per_epoch)


@dataclass(frozen=True, slots=True)
class SchedulePlace:
    """Where a schedule stands after some steps: its state, and the settings that it has given each parameter group."""

    schedule: Any
    state: Mapping[str, Any]
    groups: Sequence[Mapping[str, Any]]

    def restore(self) -> None:
        """Bring the schedule and its optimizer there."""
        self.schedule.load_state_dict(self.state)
        for group, settings in zip(self.schedule.optimizer.param_groups, self.groups, strict=True):
            group.update(settings)


def replayed(trainer: Trainer, steps: Sequence[int | None]) -> list[SchedulePlace]:
    """Return where the new schedules of a rung stand after so many steps; those with None follow metrics, and are left out.

    A schedule's state holds its length, and many compute each rate from the one before: with the state of a shorter rung, a
    cosine that had come down to 0 would stay there.
    """
    places = []
    for config, count in zip(trainer.lr_scheduler_configs, steps, strict=True):
        if count is None:
            continue
        with warnings.catch_warnings():
            # torch wants steps of the optimizer first.
            warnings.simplefilter("ignore")
            for _ in range(count):
                config.scheduler.step()
        groups = [
            {name: deepcopy(value) for name, value in group.items() if name != "params"}
            for group in config.scheduler.optimizer.param_groups
        ]
        places.append(SchedulePlace(config.scheduler, deepcopy(config.scheduler.state_dict()), groups))
    return places


def schedule_steps(trainer: Trainer) -> list[int | None]:
    """Return how many steps each schedule has made; None for those that follow metrics, or do not tell."""
    return [
        None if config.reduce_on_plateau else getattr(config.scheduler, "last_epoch", None)
        for config in trainer.lr_scheduler_configs
    ]


def begin_epoch(trainer: Trainer, num_batches: int) -> None:
    """Draw the order of the data, and go through so many batches of it."""
    # Lightning begins again with the first batch where a training goes on in the middle of an epoch; its fetcher is its own
    # (2.6), and the only place where the batches can be passed over before hooks see them.
    fetcher: Any = trainer.fit_loop._data_fetcher
    for loader in CombinedLoader(trainer.train_dataloader).flattened:
        sampler: Any = getattr(loader, "sampler", None)
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(trainer.current_epoch)
    iter(fetcher)
    for _ in range(num_batches):
        next(fetcher)
    # Lightning counts them once more.
    fetcher.fetched -= num_batches


def begin_pass(module: LightningModule) -> None:
    """Say that the model begins to run: a training step calls parts of it, and seldom the module itself."""
    freezing = freezing_of(module)
    if freezing is not None:
        freezing.begin_pass()


@contextmanager
def called_as(module: LightningModule, step: Callable[..., Any]) -> Iterator[None]:
    """While this lasts, calling the module is calling ``step``."""
    module.forward = step
    try:
        yield
    finally:
        del module.forward


def agreed(trainer: Trainer, decisions: tuple[bool, bool]) -> tuple[bool, bool]:
    """Return what rank 0 has decided."""
    return trainer.strategy.broadcast(decisions) if trainer.world_size > 1 else decisions
