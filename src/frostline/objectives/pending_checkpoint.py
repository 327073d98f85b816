"""The last checkpoint that an objective handed over, until it lies on disk."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.layers.cutting.nesting import map_tensors

if TYPE_CHECKING:
    from torch import Tensor

    from frostline.objectives.kept_training import KeptTraining

# A checkpoint on the way is written at most so often, however often the objective hands one over; frameworks make theirs,
# files that take time, no more often.
SECONDS_BETWEEN_CHECKPOINTS = 10.0

# Writing them takes at most about one part in so many of the time, however slow the place is that they lie in.
_PAUSES_BETWEEN_WRITES = 10

# Copying states that are not written yet takes at most one part in so many of the time.
_PAUSES_BETWEEN_COPIES = 20


class PendingCheckpoint:
    """Keeps what it is handed by ``keep``, now and then, and at the end if a rung of more samples ``may_continue`` there."""

    def __init__(self, keep: Callable[[KeptTraining], object], *, may_continue: bool = True) -> None:
        self._keep, self._may_continue = keep, may_continue
        # ``_live`` are the very tensors that the next batch is trained in.
        self._live: KeptTraining | None = None
        self._copied: KeptTraining | None = None
        # What was trained in the first seconds is soon trained again.
        self._kept_at, self._copied_at = time.monotonic(), -math.inf
        self._copying_seconds = self._writing_seconds = 0.0

    def hand_over(self, training: KeptTraining, *, may_wait: bool) -> None:
        """Take the place of the last one; written at once if it may not wait, or none was written for a while."""
        self._live = training
        pause = max(SECONDS_BETWEEN_CHECKPOINTS, _PAUSES_BETWEEN_WRITES * self._writing_seconds)
        if not may_wait or time.monotonic() - self._kept_at >= pause:
            self.write()

    def settle(self) -> None:
        """Before training goes on in the tensors of the last checkpoint, copy them, unless that was just done."""
        live, self._live = self._live, None
        begin = time.monotonic()
        if live is None or begin - self._copied_at < _PAUSES_BETWEEN_COPIES * self._copying_seconds:
            return
        self._copied = replace(live, state=map_tensors(_copied, live.state))
        self._copied_at = time.monotonic()
        self._copying_seconds = self._copied_at - begin

    def rest(self, *, is_over: bool) -> None:
        """Behind the last batch, from where on the tensors may change, write the last checkpoint or copy it.

        ``is_over`` says whether the rung was trained to its end. A rung of other layers goes on from nothing, and nothing
        goes on from a full training.
        """
        if is_over and not self._may_continue:
            self.settle()
        else:
            self.write()

    def write(self) -> None:
        """Write the last checkpoint to disk, if it was not."""
        latest = self._live or self._copied
        if latest is not None:
            begin = time.monotonic()
            self._keep(latest)
            self._live = self._copied = None
            self._kept_at = time.monotonic()
            self._writing_seconds = self._kept_at - begin


def _copied(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True)
