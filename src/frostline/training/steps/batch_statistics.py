"""Which statistics of batch normalisations are measured where a training stands, and on which batches.

The running ones still hold what they began with after a few steps, and follow the weights some steps behind: a short
training, or one of a high learning rate, is judged by statistics of other weights than its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.layers import freezing_of
from frostline.layers.freezing.frozen_statistics import normalisations

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import nn

    from frostline.protocols import Batch, Task

# More batches move the statistics by less than the choice of the batches does.
_MOST_BATCHES = 8

# Of the samples that a training has seen, at most one part in so many is used: measuring takes little of its time.
_PARTS = 5


def measured_normalisations(model: nn.Module) -> tuple[nn.Module, ...]:
    """Return the normalisations of the trained layers; none where frozen ones follow the batches, too.

    Those are the method's own ("batch"), whose running statistics are all that they are judged by.
    """
    freezing = freezing_of(model)
    if freezing is not None and freezing.frozen_layers and freezing.frozen_statistics == "batch":
        return ()
    return tuple(module for module in normalisations([model]) if module.training)


def measuring_batches(task: Task, batches: Iterable[Batch], *, samples_seen: int) -> list[Batch]:
    """Return the first of ``batches`` to measure statistics on, at least one, after a training on ``samples_seen``."""
    found: list[Batch] = []
    samples = 0
    for batch in batches:
        samples += task.num_samples(batch)
        if found and samples > samples_seen // _PARTS:
            break
        found.append(batch)
        if len(found) == _MOST_BATCHES:
            break
    return found
