"""The traceback of an error of the user's code: what is shown of it, what is kept of it, and the line that it names."""

from __future__ import annotations

import traceback
from pathlib import Path
from types import TracebackType

from frostline.inputs.credentials import Secrets
from frostline.inputs.foreign_errors import frames_of, is_foreign
from frostline.inputs.printable import printable

_LONGEST = 4000


def last_place(error: BaseException) -> str:
    """Return the last line of the user's code on the way to ``error``, such as "train.py:12"; without one, of any code."""
    frames = frames_of(error)
    if not frames:
        return ""
    file, line = next((frame for frame in reversed(frames) if is_foreign(frame[0])), frames[-1])
    return f"{Path(file).name}:{line}"


def shortened_traceback(error: BaseException) -> str:
    """Return the traceback of ``error`` as Python prints it, printable, with the lines of the user's code alone.

    All lines stay where none is the user's. Passwords are hidden, and the middle of what is very long is left out.
    """
    whole = traceback.TracebackException.from_exception(error)
    link: traceback.TracebackException | None = whole
    while link is not None:
        link.stack = _foreign_frames(link.stack)
        link = link.__cause__ if link.__cause__ is not None else link.__context__
    text = Secrets().hidden_in("".join(whole.format()))
    text = "\n".join(printable(line) for line in text.splitlines())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]}\n[...]\n{text[-_LONGEST // 2 :]}"


def without_our_frames(error: BaseException) -> BaseException:
    """Return ``error`` with the user's code alone in its traceback, and with nothing held by that: no model, no batch."""
    links: list[BaseException] = []
    link: BaseException | None = error
    # Somebody may have led a chain back to its beginning.
    while link is not None and not any(link is known for known in links):
        links.append(link)
        link = link.__cause__ if link.__cause__ is not None else link.__context__
    for link in links:
        # Locals would keep a model and its activations alive for as long as the error is.
        traceback.clear_frames(link.__traceback__)
        link.__traceback__ = _foreign_links(link.__traceback__)
    return error


def _foreign_frames(stack: traceback.StackSummary) -> traceback.StackSummary:
    foreign = [frame for frame in stack if is_foreign(frame.filename)]
    return traceback.StackSummary.from_list(foreign) if foreign else stack


def _foreign_links(links: TracebackType | None) -> TracebackType | None:
    kept: list[TracebackType] = []
    link = links
    while link is not None:
        if is_foreign(link.tb_frame.f_code.co_filename):
            kept.append(link)
        link = link.tb_next
    shortened: TracebackType | None = None
    for link in reversed(kept):
        shortened = TracebackType(shortened, link.tb_frame, link.tb_lasti, link.tb_lineno)
    return shortened if kept else links
