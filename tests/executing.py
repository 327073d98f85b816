"""Executors driven by hand, and observers made of a function."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from frostline.protocols import Executor
from frostline.records import Evaluation, Job, Progress
from frostline.run.loop import Observer
from frostline.search.history import History


def evaluations_by(executor: Executor, jobs: Sequence[Job]) -> Iterator[Evaluation]:
    """Hand ``jobs`` over as far as there is room, and yield their evaluations as they end."""
    waiting, num_under_way = list(jobs), 0
    while waiting or num_under_way:
        taken = waiting[: executor.room()]
        del waiting[: len(taken)]
        if taken:
            executor.submit(taken)
        num_under_way += len(taken)
        yield executor.next_ended()
        num_under_way -= 1


class Watching(Observer):
    """Hands on what it is told."""

    def __init__(
        self,
        ended: Callable[[Evaluation], object] = lambda _: None,
        progressed: Callable[[Progress], object] = lambda _: None,
    ) -> None:
        self._ended = ended
        self._progressed = progressed

    def ended(self, evaluation: Evaluation, history: History) -> None:
        self._ended(evaluation)

    def progressed(self, progress: Progress) -> None:
        self._progressed(progress)
