"""Evaluations on a simulated clock: hours of training in milliseconds, under the same loop as real ones."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from itertools import count

from frostline.errors import OptionError
from frostline.records import Evaluation, Job


class SimulatedExecutor:
    """Several workers that take as many seconds of a clock of their own as their evaluations say they cost.

    Raises: OptionError if there is no worker.
    """

    def __init__(
        self, evaluate: Callable[[Job], Evaluation], *, workers: int = 1, begins_at_seconds: float = 0.0
    ) -> None:
        if workers < 1:
            raise OptionError(f"workers is {workers}, but at least 1 must work: ask for 1 or more.")
        self.seconds = begins_at_seconds
        """What the clock says: when the evaluation that was returned last has ended."""
        self._evaluate = evaluate
        self._workers = workers
        # Whoever ends first comes first, and of those the one that began first.
        self._under_way: list[tuple[float, int, Evaluation]] = []
        self._order = count()

    def room(self) -> int:
        """Return how many workers have nothing to do."""
        return self._workers - len(self._under_way)

    def submit(self, jobs: Sequence[Job]) -> None:
        """Let workers begin ``jobs``."""
        for job in jobs:
            evaluation = self._evaluate(job)
            ends = self.seconds + evaluation.cost.seconds
            heapq.heappush(self._under_way, (ends, next(self._order), evaluation))

    def next_ended(self) -> Evaluation:
        """Put the clock forward to the next end, and return what has ended."""
        self.seconds, _, evaluation = heapq.heappop(self._under_way)
        return evaluation

    def forget(self, number: int) -> None:
        """Do nothing: nothing is kept."""

    def close(self) -> None:
        """Give up what is under way."""
        self._under_way.clear()
