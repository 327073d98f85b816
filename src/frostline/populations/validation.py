"""The scores of several members at once: a validation batch is fetched once, and goes through one model after the other."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from frostline.protocols import running_score_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.protocols import Batch, RunningScore
    from frostline.training.course import Course


class MemberScore:
    """One member's score, the same that ``Course.score`` returns. ``close`` puts back what it changed, however it ends."""

    def __init__(self, course: Course, running: RunningScore, *, is_over: bool) -> None:
        self.course = course
        self._running = running
        self._is_measured = course.measures(is_over=is_over)
        self._changes = ExitStack()

    @classmethod
    def begun(cls, course: Course, *, is_over: bool) -> MemberScore | None:
        """Return the score of a member before the first batch; None if its task makes none batch by batch."""
        running = running_score_of(course.session.task, course.session.model)
        return None if running is None else cls(course, running, is_over=is_over)

    def measuring_batches(self) -> list[Batch]:
        """Return the training batches on which it is to rest, the same for all members after as many samples."""
        return self.course.session.measuring_batches() if self._is_measured else []

    def begin(self, measuring: Sequence[Batch]) -> None:
        """Prepare the model, on the training batches to measure statistics on if it is to be measured."""
        session = self.course.session
        if self._is_measured:
            self._changes.enter_context(session.measured(measuring))
        self._changes.enter_context(session.scored())

    def update(self, batch: Batch, place: int) -> None:
        """Take in the CPU batch at ``place`` of the validation set."""
        self.course.session.score_batch(self._running, batch, place=place)

    def end(self) -> float:
        """Return the score."""
        return self.course.session.judged(self._running.compute())

    def close(self) -> None:
        """Put the model back as it was."""
        self._changes.close()
