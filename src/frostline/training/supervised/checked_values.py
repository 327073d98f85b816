"""Hyperparameters that a supervised task reads whatever its model is, checked: all are numbers within bounds."""

from __future__ import annotations

import math

from frostline.errors import HyperparameterError
from frostline.inputs.whole_numbers import shown
from frostline.records import Value
from frostline.training.supervised.data import LARGEST_BATCH


def checked_gradient_norm(norm: Value) -> float | None:
    """Return ``norm`` as a number, or None. Raises: HyperparameterError if it is not above 0."""
    if norm is None:
        return None
    if isinstance(norm, bool) or not isinstance(norm, int | float) or not 0 < norm < math.inf:
        raise HyperparameterError(
            f"gradient_clip_norm is {shown(norm)}, but must be a number above 0, or None, and finite."
        )
    return float(norm)


def checked_batch_size(size: Value) -> int:
    """Return ``size`` as a whole number. Raises: HyperparameterError if it is none, below 1 or beyond all memory."""
    if isinstance(size, bool) or not isinstance(size, int | float) or not 1 <= size <= LARGEST_BATCH:
        raise HyperparameterError(
            f"batch_size is {shown(size)}, but must be a whole number of examples, at least 1, and at most "
            f"{LARGEST_BATCH}."
        )
    if size != int(size):
        raise HyperparameterError(
            f"batch_size is {size!r}, but must be a whole number: make it an int in the space."
        )
    return int(size)


def checked_layer_decay(decay: Value) -> float:
    """Return ``decay`` as a number. Raises: HyperparameterError unless it is above 0 and at most 1."""
    if isinstance(decay, bool) or not isinstance(decay, int | float) or not 0 < decay <= 1:
        raise HyperparameterError(
            f"layer_decay is {shown(decay)}, but must be a number above 0 and at most 1: what each layer's learning rate "
            f"is of that of the layer behind it."
        )
    return float(decay)
