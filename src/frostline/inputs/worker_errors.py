"""Errors of a DataLoader's processes: torch raises them again here, with the traceback of there as their message."""

from __future__ import annotations

import re
from itertools import dropwhile

_CAUGHT = re.compile(r"Caught \w+ in DataLoader worker process \d+\.\nOriginal Traceback")
_FRAME = re.compile(r'^  File "([^"]+)", line (\d+)', re.MULTILINE)


def original_message(error: BaseException) -> str:
    """Return the message of ``error``; of one that was raised in a loader's process what it was there."""
    text = str(error)
    if not _CAUGHT.match(text):
        return text
    lines = text.rstrip().splitlines()
    last_frame = max(index for index, line in enumerate(lines) if _FRAME.match(line))
    # Its code is shown below it, indented.
    words = dropwhile(lambda line: line.startswith("    "), lines[last_frame + 1 :])
    return "\n".join(words).removeprefix(f"{type(error).__name__}: ")


def frames_there(error: BaseException) -> list[tuple[str, int]]:
    """Return the files and lines in a loader's process that led to ``error``, the outermost first; none if it was here."""
    text = str(error)
    return [(file, int(line)) for file, line in _FRAME.findall(text)] if _CAUGHT.match(text) else []
