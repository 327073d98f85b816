"""Refuses, before anything runs, a training that the memory at hand cannot hold."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from frostline.costs.capacity import Capacity
from frostline.costs.predicted.prediction import weight_bytes
from frostline.errors import NotEnoughMemoryError, PredictionError
from frostline.sizes import format_size
from frostline.wording import counted

if TYPE_CHECKING:
    from frostline.protocols import Task

logger = logging.getLogger(__name__)

# Weights below this share of the memory: full training takes four times as much and its activations, and is let through
# unseen, because a prediction takes a second.
_SMALL_SHARE = 0.02


def require_memory(task: Task, *, trainable_layers: int, available: int, is_host: bool = True) -> None:
    """Check that ``available`` bytes, of host memory unless ``is_host`` says no, hold a training of ``trainable_layers``.

    What is needed is predicted, with the margin of ``Capacity``. A model that does not run on fake tensors is let through,
    and one whose weights are small.
    Raises: NotEnoughMemoryError, which says how many layers would fit.
    """
    try:
        if is_small(task, available):
            return
        capacity = Capacity(task, is_host=is_host)
        required = capacity.required(trainable_layers)
        num_layers = capacity.cost(trainable_layers).num_layers
        if required <= available:
            return
        most = _most_layers(capacity, trainable_layers, available)
    except PredictionError as error:
        logger.debug("what it needs is not known: %s", error)
        return
    smaller = "use a smaller batch, frozen_dtype, frozen_placement or chunked_logits"
    advice = f"train at most {counted(most, 'layer')}" if most else smaller
    raise NotEnoughMemoryError(
        f"training {trainable_layers} of {num_layers} layers of {task.name} needs {format_size(required)}, and "
        f"{format_size(available)} are available: {advice} here, or go to a larger device (frostline fit says which)."
    )


def is_small(task: Task, available: int) -> bool:
    """Return whether any training of a task fits into ``available`` bytes, by its weights alone.

    Raises: PredictionError if the model cannot be built without memory.
    """
    return weight_bytes(task) < _SMALL_SHARE * available


def _most_layers(capacity: Capacity, too_many: int, available: int) -> int:
    """Return the largest number of layers that fits, or 0; what they need rises with them."""
    fits = 0
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if capacity.required(middle) <= available:
            fits = middle
        else:
            too_many = middle
    return fits
