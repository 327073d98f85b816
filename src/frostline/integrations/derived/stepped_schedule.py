"""A framework's learning-rate schedule as a task's: the rates that it gives, step by step, over a full training."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from frostline.errors import TaskError
from frostline.training.steps.schedules import schedule_from_hyperparameters

if TYPE_CHECKING:
    from frostline.protocols import Schedule
    from frostline.records import Configuration

_MOST_STEPS = 10_000_000


@dataclass(frozen=True, slots=True)
class SteppedSchedule:
    """The factor of each step of a full training; shorter ones pass through them as much faster."""

    factors: tuple[float, ...]
    num_steps: float
    """Of a full training, with the part of a step that is left over."""

    def __call__(self, share: float) -> float:
        """Return the factor after ``share`` of the training."""
        return self.factors[min(int(share * self.num_steps), len(self.factors) - 1)]

    @property
    def digest(self) -> str:
        """What tells it from others."""
        return hashlib.sha256(repr(self.factors).encode()).hexdigest()[:16]

    def as_field(self) -> Callable[[Configuration], Schedule]:
        """Return the ``schedule`` of a task: where this one changes nothing, the usual one, which a search may shape."""
        if all(factor == 1 for factor in self.factors):
            return schedule_from_hyperparameters
        return self._of_all

    def _of_all(self, _configuration: Configuration) -> Schedule:
        return self


@dataclass(frozen=True, slots=True)
class Stepping:
    """A schedule and how many steps of the optimizer come before each of its own."""

    scheduler: Any
    every: int


def schedule_of(
    steppings: Sequence[Stepping], optimizer: Optimizer, *, base: float, num_steps: float
) -> SteppedSchedule:
    """Return what schedules make of the learning rate ``base`` in each of the ``num_steps``; they are used up by that.

    Raises: TaskError if they change anything but the learning rate, or groups differently, or there is nothing to scale.
    """
    if num_steps > _MOST_STEPS:
        raise TaskError(
            f"a full training is {int(num_steps)} steps, but schedules are followed over {_MOST_STEPS} at most: tune it as "
            f"trials."
        )
    if base <= 0 or not all(_can_be_followed(each.scheduler) for each in steppings):
        found = ", ".join(type(each.scheduler).__name__ for each in steppings) or f"a learning rate of {base:g}"
        raise TaskError(
            f"{found} cannot be followed, but a task's schedule is a factor on the learning rate: take one of "
            f"torch.optim.lr_scheduler that follows no metric, or tune it as trials."
        )
    before = _other_settings(optimizer)
    factors = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch wants steps of the optimizer first
        for step in range(max(1, int(num_steps))):
            rates = {group["lr"] for group in optimizer.param_groups}
            changed = next(
                (name for name, value in _other_settings(optimizer).items() if before.get(name) != value), None
            )
            if changed is not None or len(rates) > 1:
                what = f"{changed} too" if changed is not None else "groups differently"
                schedule = ", ".join(type(each.scheduler).__name__ for each in steppings)
                raise TaskError(
                    f"{schedule} changes {what}, but a task's schedule is a factor on one learning rate: take another one "
                    f"(cycle_momentum=False), or tune it as trials."
                )
            factors.append(float(rates.pop()) / base)
            for each in steppings:
                if (step + 1) % each.every == 0:
                    each.scheduler.step()
    return SteppedSchedule(tuple(factors), num_steps)


def _can_be_followed(scheduler: Any) -> bool:
    return hasattr(scheduler, "get_last_lr") and not isinstance(scheduler, ReduceLROnPlateau)


def _other_settings(optimizer: Optimizer) -> Mapping[str, Any]:
    """Return what a schedule must leave alone: the first step of some changes it already."""
    settings = {
        name: value
        for group in optimizer.param_groups
        for name, value in group.items()
        if name not in ("params", "lr", "weight_decay")
    }
    of_cycles = ("initial_lr", "max_lr", "min_lr")
    return {name: value for name, value in settings.items() if name not in of_cycles}
