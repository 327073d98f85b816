"""What is said of an error that came from code that is not ours, such as a task file: one line with its own traceback."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

from frostline.inputs.printable import one_line
from frostline.inputs.worker_errors import frames_there, original_message

_LONGEST_MESSAGE = 500
_MOST_PLACES = 3

# frostline itself, and what is installed beside it or came with Python.
_NOT_FOREIGN = tuple(
    str(folder)
    for folder in (
        Path(__file__).parents[1],
        *map(sysconfig.get_path, ("stdlib", "platstdlib", "purelib", "platlib")),
    )
)


# What is typed in has no file.
_TYPED = ("<stdin>", "<python-input", "<ipython-input")


def is_foreign(file: str) -> bool:
    """Return whether code in ``file`` is the user's own: not frostline's, no library's and not Python's."""
    return file.startswith(_TYPED) or not file.startswith(("<", *_NOT_FOREIGN))


def foreign_error(error: BaseException) -> str:
    """Return one line: what was raised, and the last places in the user's code that led there, the innermost first."""
    try:
        # Whoever says it ends the sentence.
        message = one_line(original_message(error)).removesuffix(".")
    except Exception:  # of a class of theirs
        message = "whose message cannot be shown"
    if len(message) > _LONGEST_MESSAGE:
        message = f"{message[:_LONGEST_MESSAGE]}..."
    kind = type(error).__name__
    places = foreign_places(error)
    where = f" ({', called from '.join(reversed(places[-_MOST_PLACES:]))})" if places else ""
    return f"{kind}: {message}{where}" if message else f"{kind}{where}"


def foreign_places(error: BaseException) -> list[str]:
    """Return where in the user's code ``error`` was on its way, the outermost first: "my_task.py:12"."""
    return [f"{Path(file).name}:{line}" for file, line in frames_of(error) if is_foreign(file)]


def frames_of(error: BaseException) -> list[tuple[str, int | None]]:
    """Return the files and lines that ``error`` was raised through, the outermost first, in a loader's process too."""
    here = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    try:
        return [*here, *frames_there(error)]
    except Exception:  # of a class of theirs, whose message cannot be shown
        return here
