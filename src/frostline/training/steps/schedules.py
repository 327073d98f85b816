"""Learning-rate schedules: the factor on the learning rate as a function of the share of training that is done."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from frostline.errors import HyperparameterError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from frostline.protocols import Schedule
    from frostline.records import Configuration, Value


@dataclass(frozen=True, slots=True)
class ConstantSchedule:
    """The learning rate as it is, from the first step to the last."""

    def __call__(self, share: float) -> float:  # noqa: ARG002 (the interface's argument)
        """Return 1."""
        return 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmupCooldownSchedule:
    """Linear warm-up from 0 over ``warmup_fraction``, constant, linear cool-down to 0 over ``cooldown_fraction``.

    Raises: HyperparameterError if a fraction is outside 0..1, or both together are more than 1.
    Source: the schedule of the method's 14M Transformer, arXiv 2504.10735, Table 1.
    """

    warmup_fraction: float = 0.0
    cooldown_fraction: float = 0.0

    def __post_init__(self) -> None:
        _check_fraction("warmup_fraction", self.warmup_fraction)
        _check_fraction("cooldown_fraction", self.cooldown_fraction)
        if self.warmup_fraction + self.cooldown_fraction > 1 + 1e-9:  # 0.7 + 0.2 + 0.1 is not 1 in floating point
            raise HyperparameterError(
                f"warmup_fraction {self.warmup_fraction:g} and cooldown_fraction {self.cooldown_fraction:g} add "
                f"up to more than the whole training: together they may be at most 1."
            )

    def __call__(self, share: float) -> float:
        """Return the factor after ``share`` of the training."""
        rising = share / self.warmup_fraction if share < self.warmup_fraction else 1.0
        left = 1.0 - share
        falling = left / self.cooldown_fraction if left < self.cooldown_fraction else 1.0
        return min(rising, falling)


def schedule_from_hyperparameters(configuration: Configuration) -> Schedule:
    """Return the schedule of ``warmup_fraction`` and ``cooldown_fraction``; without either, a constant one.

    Raises: HyperparameterError if they are no numbers, outside 0..1, or more than 1 together.
    """
    names = ("warmup_fraction", "cooldown_fraction")
    fractions = {name: _number(configuration, name) for name in names if name in configuration}
    return WarmupCooldownSchedule(**fractions) if fractions else ConstantSchedule()


def share_done(*, samples_seen: int, batch_samples: int, horizon_samples: int) -> float:
    """Return where in its schedule the next step lies, in [0, 1): the middle of its batch.

    The middle makes a step's factor the mean of a linear schedule over that step. A step's beginning would give
    the first step of a warm-up a learning rate of 0, and waste it; its end would do so to the last step of a
    cool-down.
    """
    share = (samples_seen + batch_samples / 2) / horizon_samples
    # Only a budget below one batch gets here: that one step is made all the same.
    return min(share, math.nextafter(1.0, 0.0))


def _check_fraction(name: str, fraction: float) -> None:
    if not 0.0 <= fraction <= 1.0:
        raise HyperparameterError(f"{name} is {fraction:g}, but is a share of the training: it must be in 0..1.")


def _number(hyperparameters: Mapping[str, Value], name: str) -> float:
    value = hyperparameters[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise HyperparameterError(f"{name} is {value!r}, but must be a number in 0..1.")
    return float(value)
