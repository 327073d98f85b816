"""The layers of a task's model, without its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from frostline.errors import ModelError
from frostline.layers import LayerStack, build_deferred, freezing_of
from frostline.layers.weights.deferred import build_shapes
from frostline.records import Configuration

if TYPE_CHECKING:
    from torch import nn

    from frostline.protocols import Task


def layers_of(task: Task) -> LayerStack:
    """Return the layers of the task's model, built with the task's own configuration."""
    configuration = Configuration(number=0, hyperparameters=task.defaults)

    def build() -> nn.Module:
        return task.build_model(configuration)

    with torch.random.fork_rng():
        try:
            return task.split(build_shapes(build))
        except ModelError:
            # Its forward pass may need values; if it is wrong in itself, it is so again.
            return task.split(build_deferred(build))


def layers_of_frozen(task: Task, model: nn.Module) -> LayerStack:
    """Return the layers of ``model``, which the task has frozen: those that were found to freeze it."""
    freezing = freezing_of(model)
    # A task may freeze by means of its own.
    return task.split(model) if freezing is None else freezing.stack
