"""The mean of a training's weights on its way: what the training comes to, without waiting for its rate to fall."""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# Step i of a training counts as this power of i: half of the weight lies on the last eighth of the steps.
_EXPONENT = 8

# The mean takes in one step of a few per cent of those so far: a thousandth of a training's time.
_GROWTH = 1.03


class WeightMean:
    """A running mean of a model's trained weights, in which later steps count more, however many there have been.

    With them go the statistics of the trained normalisations: not their running ones, which still hold what they began with
    and follow the weights behind, but those of the batches, in the same mean. The means lie in memory of the host.
    Source: polynomial-decay averaging, Shamir and Zhang, ICML 2013, section 4.
    """

    def __init__(self, model: nn.Module, parameters: Sequence[nn.Parameter]) -> None:
        self._parameters = parameters
        self._norms = [
            module
            for module in model.modules()
            if isinstance(module, _NormBase)
            and module.training
            and module.running_mean is not None
            and module.momentum
        ]
        self._steps = 0
        self._counted = 0
        """Up to which step the mean goes."""
        self._next = 1
        self._means = [_zeros(value) for value in (*parameters, *self._statistics())]
        self._before = self._copied_statistics()

    @torch.no_grad()
    def add(self) -> None:
        """Count in the weights after a step."""
        self._steps += 1
        if self._steps == self._next:
            share = 1 - (self._counted / self._steps) ** (_EXPONENT + 1)
            values = [*self._parameters, *self._of_last_batch()]
            on_host = [value.to(mean) for value, mean in zip(values, self._means, strict=True)]
            torch._foreach_lerp_(self._means, on_host, share)
            self._counted = self._steps
            self._next = max(self._steps + 1, math.ceil(self._steps * _GROWTH))
        if self._steps + 1 == self._next:
            self._before = self._copied_statistics()

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Have the model run with the means; then put back what was there."""
        values = [*self._parameters, *self._statistics()]
        with torch.no_grad():
            kept = [value.to(device="cpu", copy=True) for value in values]
            _copy(values, self._means)
        try:
            yield
        finally:
            with torch.no_grad():
                _copy(values, kept)

    def contents(self) -> dict[str, Any]:
        """Return what ``restore`` takes: tensors and plain values."""
        return {"steps": self._steps, "counted": self._counted, "next": self._next, "means": self._means}

    def restore(self, contents: Mapping[str, Any]) -> None:
        """Go on from ``contents``; the model is where it was then.

        Raises: KeyError, RuntimeError or ValueError if they are of another model.
        """
        means = contents["means"]
        for mean, value in zip(self._means, means, strict=True):
            mean.copy_(value)
        self._steps, self._counted, self._next = contents["steps"], contents["counted"], contents["next"]
        self._before = self._copied_statistics()

    def _statistics(self) -> list[Tensor]:
        # By their modules: a stack puts other tensors in their place.
        pairs = ((norm.running_mean, norm.running_var) for norm in self._norms)
        return [each for pair in pairs for each in pair if each is not None]

    def _copied_statistics(self) -> list[tuple[Tensor, ...]]:
        """Return copies of every normalisation's mean, variance and number of batches."""
        buffers = ((norm.running_mean, norm.running_var, norm.num_batches_tracked) for norm in self._norms)
        return [tuple(each.clone() for each in each_norm if each is not None) for each_norm in buffers]

    def _of_last_batch(self) -> Iterator[Tensor]:
        """Yield the statistics of the last step's batch, from what they did to the running ones."""
        for norm, (mean, variance, *count) in zip(self._norms, self._before, strict=True):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            assert norm.momentum is not None
            # A layer may run more than once in a step, or not at all.
            batches = int(norm.num_batches_tracked - count[0]) if norm.num_batches_tracked is not None else 1
            share = 1 - (1 - norm.momentum) ** batches or 1.0
            yield mean + (norm.running_mean - mean) / share
            yield (variance + (norm.running_var - variance) / share).clamp_(min=0)


def _zeros(value: Tensor) -> Tensor:
    """Return zeros on the host, in float32 at least: many small shares add up."""
    return torch.zeros_like(value, device="cpu", dtype=torch.promote_types(value.dtype, torch.float32))


def _copy(targets: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for target, value in zip(targets, values, strict=True):
        target.copy_(value)
