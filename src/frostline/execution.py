"""Running jobs on this machine, one after the other; a job that raises is an evaluation that failed, never the end."""

from __future__ import annotations

import gc
import logging
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from frostline.errors import FrostlineError
from frostline.records import Cost, Evaluation, Job, Status

logger = logging.getLogger(__name__)

_LONGEST_REASON = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalExecutor:
    """Evaluates one job at a time in this process."""

    evaluate: Callable[[Job], Evaluation]

    @property
    def capacity(self) -> int:
        """How many jobs it takes at once: one."""
        return 1

    def run(self, jobs: Sequence[Job]) -> Iterator[Evaluation]:
        """Yield one evaluation for every job, in their order."""
        for job in jobs:
            yield self._run_one(job)

    def _run_one(self, job: Job) -> Evaluation:
        begin = time.perf_counter()
        try:
            return self.evaluate(job)
        except Exception as error:
            logger.debug("configuration %d failed", job.configuration.number, exc_info=True)
            reason = _reason(error)
        # Outside the except clause, where the traceback no longer keeps the model and its activations alive.
        _give_memory_back()
        return Evaluation(
            number=job.configuration.number,
            rung=job.rung,
            fidelity=job.fidelity,
            status=Status.FAILED,
            score=None,
            cost=Cost(seconds=time.perf_counter() - begin, samples=0),
            reason=reason,
        )


def _reason(error: Exception) -> str:
    """Return one line: what was raised, and where in the user's code."""
    message = " ".join(str(error).split())[:_LONGEST_REASON]
    if is_out_of_memory(error):
        return f"out of memory: {message}"
    if isinstance(error, FrostlineError):
        return message
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1]
    return f"{type(error).__name__}: {message} ({Path(last.filename).name}:{last.lineno})"


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether ``error`` says that memory ran out, on a device or on the host."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # The CPU allocator raises a plain RuntimeError (torch 2.13).
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def _give_memory_back() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
