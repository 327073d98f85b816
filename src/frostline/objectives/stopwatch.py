"""How long samples take in somebody else's loop, and how long what surrounds it, told apart by the clock."""

from __future__ import annotations

import time


class Stopwatch:
    """Notes when the first step had ended, and when the last one.

    The first step is left out: what happens once falls to it, such as compiling, or filling the caches of a loader.
    """

    def __init__(self) -> None:
        self._first: tuple[float, int] | None = None
        self._last: tuple[float, int] | None = None

    @property
    def is_running(self) -> bool:
        """Whether the first step has ended."""
        return self._first is not None

    def stepped(self, samples: int) -> None:
        """Note that a step has ended now, after so many ``samples`` of this training."""
        self._last = (time.perf_counter(), samples)
        self._first = self._first or self._last

    def fixed_seconds(self, seconds: float, samples: int) -> float:
        """Return which of the ``seconds`` that a training took on so many ``samples`` more of them would not have added to.

        0 if nobody knows: there were fewer than two steps.
        """
        if self._first is None or self._last is None or self._last[1] <= self._first[1]:
            return 0.0
        pace = (self._last[0] - self._first[0]) / (self._last[1] - self._first[1])
        return max(0.0, seconds - pace * samples)
