"""Whether a training is still finite, without waiting for the device at every step."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor


class Readings:
    """Losses and gradient norms of the last steps, looked at every ``interval`` steps."""

    def __init__(self, *, interval: int) -> None:
        self._interval = interval
        self._waiting: list[tuple[int, Tensor, Tensor | None]] = []

    def add(self, samples_seen: int, loss: Tensor, norm: Tensor | None) -> None:
        """Take the loss and the gradient norm of the step that was made after ``samples_seen`` samples."""
        self._waiting.append((samples_seen, loss, norm))

    def complaint(self, *, at_once: bool) -> str | None:
        """Return what is not finite, the earliest first; None if all is well, or it is not yet time to look."""
        if len(self._waiting) < self._interval and not at_once:
            return None
        waiting, self._waiting = self._waiting, []
        if len(waiting) > 1 and _are_finite(waiting):
            return None
        for samples_seen, loss, norm in waiting:
            for name, tensor in (("training loss", loss), ("gradient norm", norm)):
                value = 0.0 if tensor is None else float(tensor)
                if not math.isfinite(value):
                    return f"the {name} after {samples_seen} samples is {value}"
        return None


def _are_finite(readings: Iterable[tuple[int, Tensor, Tensor | None]]) -> bool:
    """Return whether all are: the host waits for an accelerator once, and not for every number."""
    values = [value for _, loss, norm in readings for value in (loss, norm) if value is not None]
    return bool(torch.stack([value.isfinite().all() for value in values]).all())
