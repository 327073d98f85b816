"""How a task's examples go through its model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn


def as_arguments(inputs: Any) -> Mapping[str, Any] | tuple[Any, ...]:
    """Return a batch's inputs as the keyword or the positional arguments of a model."""
    if isinstance(inputs, Mapping):
        return inputs
    return tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)


def outputs_of(model: nn.Module, inputs: Any) -> Any:
    """Return what ``model`` makes of a batch's inputs: its ``logits``, where the output has them."""
    arguments = as_arguments(inputs)
    outputs = model(**arguments) if isinstance(arguments, Mapping) else model(*arguments)
    return getattr(outputs, "logits", outputs)


def device_of(model: nn.Module) -> torch.device:
    """Return the device of the model's first parameter; the CPU if it has none."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
