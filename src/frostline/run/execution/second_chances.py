"""What becomes of jobs whose process died: each is tried once more, by itself, and fails if another process dies of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from frostline.errors import FrostlineError
from frostline.training.failures import failed
from frostline.wording import died_twice

if TYPE_CHECKING:
    from frostline.records import Evaluation, Job, Request


class WorkerError(FrostlineError, RuntimeError):
    """A process that trains beside others and cannot, or not any more."""


class SecondChances:
    """The jobs that a process has died of, perhaps: whoever tries one of them again does so by itself."""

    def __init__(self) -> None:
        self._suspects: set[Request] = set()

    def __contains__(self, job: Job) -> bool:
        return job.request in self._suspects

    def __len__(self) -> int:
        return len(self._suspects)

    def together(self, jobs: Collection[Job]) -> list[Job]:
        """Return those of ``jobs`` that may be trained together with the first: that one alone if a process died of it."""
        first = next(iter(jobs))
        return [first] if first in self else [job for job in jobs if job not in self]

    def ended(self, request: Request) -> None:
        """Clear whoever has ended."""
        self._suspects.discard(request)

    def after_death(self, jobs: Iterable[Job], *, how: str, seconds: float) -> tuple[list[Job], list[Evaluation]]:
        """Return which ``jobs`` of a process that ended ``how`` are tried again, and the evaluations of the others."""
        again: list[Job] = []
        evaluations: list[Evaluation] = []
        for job in jobs:
            if job in self:
                self._suspects.remove(job.request)
                evaluations.append(failed(job, WorkerError(died_twice(how)), seconds=seconds))
            else:
                self._suspects.add(job.request)
                again.append(job)
        return again, evaluations
