"""Evaluations on a simulated clock: hours of training in milliseconds, under the same loop as real ones."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from itertools import count

from frostline.errors import OptionError
from frostline.records import Evaluation, Job, Request
from frostline.run.execution.placement import Placement


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


class SimulatedDevices:
    """Devices of several sizes on a clock of their own, each with one job at a time: which gets which decides ``Placement``.

    ``devices`` are their bytes; ``needed_bytes`` says what a job needs.
    Raises: OptionError if there is no device.
    """

    def __init__(
        self,
        evaluate: Callable[[Job], Evaluation],
        *,
        devices: Sequence[int],
        needed_bytes: Callable[[Job], int],
    ) -> None:
        if not devices:
            raise OptionError("there are no devices, but at least 1 must work: give the bytes of 1 or more.")
        self.seconds = 0.0
        """What the clock says: when the evaluation that was returned last has ended."""
        self.busy_seconds = 0.0
        """What the devices have worked, together."""
        self.placement: Placement[int, Request] = Placement(most_items=1)
        self._evaluate = evaluate
        self._needed_bytes = needed_bytes
        self._capacity = 2 * len(devices)
        self._waiting: dict[Request, Job] = {}
        self._under_way: list[tuple[float, int, int, Evaluation]] = []
        self._order = count()
        for number, memory in enumerate(devices):
            self.placement.add(number, memory)
            self.placement.release(number)

    def room(self) -> int:
        """Return how many devices have nothing to do, unless too many jobs wait that fit on none of these."""
        left = self._capacity - len(self._under_way) - self.placement.num_waiting
        return min(self.placement.num_free, max(0, left))

    def submit(self, jobs: Sequence[Job]) -> None:
        """Let devices begin ``jobs``, as far as they are free; the others wait."""
        for job in jobs:
            self._waiting[job.request] = job
            self.placement.wait(job.request, self._needed_bytes(job))
        self._begin()

    def next_ended(self) -> Evaluation:
        """Put the clock forward to the next end, and return what has ended."""
        self.seconds, _, device, evaluation = heapq.heappop(self._under_way)
        self.placement.release(device)
        self._begin()
        return evaluation

    def forget(self, number: int) -> None:
        """Do nothing: nothing is kept."""

    def close(self) -> None:
        """Give up what is under way."""
        self._under_way.clear()
        self._waiting.clear()

    def _begin(self) -> None:
        while (choice := self.placement.choose()) is not None:
            (request,) = choice.items
            self.placement.begin(choice.device, [request])
            evaluation = self._evaluate(self._waiting.pop(request))
            self.busy_seconds += evaluation.cost.seconds
            ends = self.seconds + evaluation.cost.seconds
            heapq.heappush(self._under_way, (ends, next(self._order), choice.device, evaluation))
