"""Names that people give, a study's or a task's: which may be one, and the folder that goes by it."""

from __future__ import annotations

import hashlib
import re
from urllib.parse import quote

from frostline.errors import OptionError

MOST_CHARACTERS = 512
"""Optuna's databases hold no longer name of a study."""

# File systems take 255 bytes, of which what is written there adds some.
_MOST_BYTES = 200
_DIGEST_CHARACTERS = 16
# ``quote`` leaves it in no name: what is shortened is never what another name is quoted as.
_BEFORE_DIGEST = "+"

# The folders that every folder holds; what Windows cuts off, or takes for a device.
_NOT_A_FOLDER = re.compile(r"\.*|.*\.|(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)

# Some file systems take it for the small letter.
_CAPITAL = re.compile(r"[A-Z]")

# What moves a terminal's cursor or turns its text around, ends a line, or can be written in no encoding.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def check_name(kind: str, name: object) -> None:
    """Raise OptionError unless ``name`` may be the name of a ``kind``, such as "study": some printable text."""
    if not isinstance(name, str):
        raise OptionError(f"the name of a {kind} is {name!r:.60}, but must be text: write it as a string.")
    if not 1 <= len(name) <= MOST_CHARACTERS:
        raise OptionError(
            f"the name of a {kind} has {len(name)} characters, but must have 1 to {MOST_CHARACTERS}: choose another one."
        )
    if (found := _UNPRINTABLE.search(name)) is not None:
        raise OptionError(
            f"the name of a {kind} holds {found[0]!a}, which cannot be printed: leave control characters and broken "
            f"encodings out."
        )


def is_printable(text: str) -> bool:
    """Return whether ``text`` can be printed without moving a terminal's cursor, and can be written at all."""
    return _UNPRINTABLE.search(text) is None


def folder_name(name: str) -> str:
    """Return the name of the folder that belongs to ``name``: always the same one, and for each name another.

    It is one part of a path on every system, none that means something, of at most 200 bytes: letters, digits, "_", ".", "-"
    and "~" as they are, others as in URLs, and the end of what would be too long as a hash. A name with capitals has a hash
    too, so that two folders differ in more than those.
    """
    # Bytes that were no text in the terminal's encoding have surrogates in their place.
    contents = name.encode("utf-8", "surrogatepass")
    quoted = quote(contents, safe="")
    if len(quoted) <= _MOST_BYTES and not _NOT_A_FOLDER.fullmatch(quoted) and not _CAPITAL.search(name):
        return quoted
    digest = hashlib.sha256(contents).hexdigest()[:_DIGEST_CHARACTERS]
    return f"{quoted[: _MOST_BYTES - len(_BEFORE_DIGEST + digest)]}{_BEFORE_DIGEST}{digest}"
