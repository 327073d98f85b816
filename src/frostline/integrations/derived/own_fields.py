"""What users say of a task that is made of a trainer, and what all such tasks have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

from torch import Tensor, nn

from frostline.errors import TaskError
from frostline.integrations.derived.optimizer_settings import OptimizerSettings
from frostline.records import Direction, Value
from frostline.training.supervised.feed import Augment


class TaskFields(TypedDict, total=False):
    """What else is said of a task: fields of ``SupervisedTask``."""

    name: str
    direction: Direction
    sample_unit: str
    pretrained: str
    new_modules: tuple[str, ...]
    frozen_statistics: Any
    frozen_dtype: Any
    frozen_placement: Any
    tied: Any
    unwrap: tuple[type[nn.Module], ...]
    augment: Augment
    also_read: tuple[str, ...]
    num_workers: int
    keep_best: bool


def first_of(outputs: Tensor, targets: Any) -> Tensor:  # noqa: ARG001 (what a task's losses are given)
    """Return what the model returned: that is the loss, or the score."""
    return outputs


def refuse_contradictions(defaults: Mapping[str, Value], settings: OptimizerSettings) -> None:
    """Raise TaskError if ``defaults`` names what the trainer's own optimizer says."""
    for name in sorted(defaults.keys() & settings.hyperparameters.keys()):
        raise TaskError(
            f"defaults names {name}, but what is used today is what the trainer's optimizer has, "
            f"{settings.hyperparameters[name]}: leave it out."
        )
