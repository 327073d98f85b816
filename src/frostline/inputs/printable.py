"""Text of others as a terminal may be shown it."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""Return ``text`` with what would move a terminal's cursor, or cannot be written at all, as escapes: "\x1b"."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def one_line(text: str) -> str:
    """Return ``text`` as one printable line."""
    return printable(" ".join(text.split()))
