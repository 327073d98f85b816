"""Text of others as a terminal may be shown it."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""Return ``text`` with what would move a terminal's cursor, or cannot be written at all, as escapes: "\x1b"."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, the one that says most of a compiler's."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "without a message"


def one_line(text: str) -> str:
    """Return ``text`` as one printable line."""
    return printable(" ".join(text.split()))
