"""Quantities in words."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """Return a number of things in words, such as "1 layer" and "3 layers"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def died_twice(how: str) -> str:
    """Return why a configuration is set aside whose training two processes did not survive, of which the last ended so."""
    return f"the process that trained it ended {how}, and did so twice"


def duration(seconds: float) -> str:
    """Return a duration in words that suit its length: of a tenth of a second and less, in milliseconds."""
    if 0.0005 < seconds < 0.0995:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 100:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"
