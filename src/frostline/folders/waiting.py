"""Waiting for what may never answer: whoever says nothing is left alone."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Answer = TypeVar("Answer")

# What libraries wait for a place that says nothing, and that again and again, comes to half an hour and more. s3fs tells of
# parts when they are there: 100 MiB, as it is used here, in these seconds are a third of a megabyte in each.
SECONDS_TO_ANSWER = 60.0
SECONDS_WITHOUT_A_BYTE = 300.0
_LARGE_BYTES = 2**20


def answered(ask: Callable[[], Answer], *, seconds: float | None = None, moved: Callable[[], int] = int) -> Answer:
    """Return what ``ask`` returns, which is asked in a thread.

    Raises: what ``ask`` does; TimeoutError after ``seconds`` (by default ``SECONDS_TO_ANSWER``) in which what ``moved`` says
    stays the same.
    """
    answers: list[Answer] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            answers.append(ask())
        except BaseException as error:
            errors.append(error)

    limit = SECONDS_TO_ANSWER if seconds is None else seconds
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    before = None
    while thread.is_alive() and (now := moved()) != before:
        before = now
        thread.join(limit)
    if errors:
        raise errors[0]
    if not answers:
        raise TimeoutError(f"no answer for {limit:.0f} seconds")
    return answers[0]


def copied(copy: Callable[..., object], source: str, target: str, **options: int) -> None:
    """Copy a file by the ``copy`` of a file system of fsspec's, as long as bytes move. Raises: as ``answered``."""
    callback = importlib.import_module("fsspec.callbacks").Callback()
    is_small = Path(source).is_file() and Path(source).stat().st_size < _LARGE_BYTES
    answered(
        lambda: copy(source, target, callback=callback, **options),
        seconds=SECONDS_TO_ANSWER if is_small else SECONDS_WITHOUT_A_BYTE,
        moved=lambda: int(callback.value),
    )
