"""Tasks whose costs are not to be had in the usual way, given to the command line as a file."""

import dataclasses

import numpy as np
from torch import nn

from tests import tiny_task


class Through(nn.Module):
    """Needs values: it cannot be predicted."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(16, 16)

    def forward(self, inputs):
        np.asarray(inputs.detach()).sum()
        return self.inner(inputs)


def numeric(configuration):
    return nn.Sequential(nn.Linear(4, 16), Through(), nn.Linear(16, 2))


def embedded(configuration):
    # An embedding that its owner fixed is not trained with all layers trained either.
    return nn.Sequential(
        nn.Embedding(10, 8).requires_grad_(False), nn.Flatten(), nn.LayerNorm(32), nn.Linear(32, 2)
    )


def crowded(outputs, targets):
    if len(outputs) > 16:
        raise MemoryError("no room")
    return nn.functional.cross_entropy(outputs, targets)


def hopeless(outputs, targets):
    np.asarray(outputs.detach()).sum()
    raise MemoryError("no room")


class Fixed:
    """Has batches of eight, whatever is asked for."""

    def __getattr__(self, name):
        return getattr(tiny_task.task, name)

    def training_batches(self, configuration, **keywords):
        for inputs, targets in tiny_task.task.training_batches(configuration, **keywords):
            yield inputs.repeat(8, 1)[:8], targets.repeat(8)[:8]


numbers = dataclasses.replace(tiny_task.task, model=numeric)
large = dataclasses.replace(tiny_task.task, loss_function=crowded)
impossible = dataclasses.replace(tiny_task.task, loss_function=hopeless)
fixed = Fixed()
data = tiny_task.points(64, seed=0)
data.tensors = (data.tensors[0].abs().long().clamp(max=9), data.tensors[1])
words = dataclasses.replace(tiny_task.task, model=embedded, training_data=data, validation_data=data)


def served(place: str):
    """A task whose data lie in a database."""
    return tiny_task.task


def fields(fields: dict):
    """A task some of whose fields are what the options say."""
    return dataclasses.replace(tiny_task.task, **fields)
