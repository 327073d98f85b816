"""What becomes of a job whose training raised: an evaluation that failed, with one line that says why."""

from __future__ import annotations

import torch

from frostline.errors import FrostlineError
from frostline.inputs.credentials import Secrets
from frostline.inputs.foreign_tracebacks import last_place, shortened_traceback, without_our_frames
from frostline.inputs.printable import one_line
from frostline.inputs.worker_errors import original_message
from frostline.process import collect_garbage, trim_freed_memory
from frostline.records import Cost, Evaluation, Failure, Job, Status

_LONGEST_REASON = 500


def failed(job: Job, error: BaseException, *, seconds: float) -> Evaluation:
    """Return the evaluation of a job that raised ``error`` after ``seconds``."""
    return Evaluation(
        number=job.configuration.number,
        rung=job.rung,
        fidelity=job.fidelity,
        status=Status.FAILED,
        score=None,
        cost=Cost(seconds=seconds, samples=0),
        reason=_reason(error),
        failure=_failure(error),
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether ``error`` says that memory ran out, on a device or on the host."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # The CPU allocator raises a plain RuntimeError (torch 2.13).
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def give_memory_back() -> None:
    """Free what nobody holds any more: call it outside the except clause, whose traceback keeps models alive."""
    collect_garbage()
    # Where malloc is set to keep what is freed, as by the frostline command.
    trim_freed_memory()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _reason(error: BaseException) -> str:
    """Return one line: what was raised, and where in the user's code."""
    # It is shown and kept in studies.
    try:
        message = one_line(Secrets().hidden_in(original_message(error)))[:_LONGEST_REASON]
    except Exception:  # of a class of theirs
        message = "whose message cannot be shown"
    if isinstance(error, SystemExit):
        message = f"{message}, which would have ended the search"
    if is_out_of_memory(error):
        return f"out of memory: {message}"
    if isinstance(error, FrostlineError):
        return message
    return f"{type(error).__name__}: {message} ({last_place(error)})"


def _failure(error: BaseException) -> Failure | None:
    """Return what of ``error`` helps to mend it; None if memory ran out, or if it was never raised: a process died."""
    if is_out_of_memory(error) or error.__traceback__ is None:
        return None
    return Failure(
        error=type(error).__name__,
        place=last_place(error),
        traceback=shortened_traceback(error),
        exception=without_our_frames(error),
    )
