"""Whole numbers as people write them, within bounds: nobody means 10^30 of anything, and whoever types it waits for ever."""

from __future__ import annotations

import re

from frostline.errors import OptionError

LARGEST = 2**53 - 1
"""Beyond this a whole number is no longer exact where it is multiplied by a share."""

MOST_CONFIGURATIONS = 1_000_000
"""Of so many a study holds more than any machine reads in a while."""

_LARGEST_SEED = 2**63 - 1
_DIGITS = re.compile(r"\d{1,19}", re.ASCII)
_MOST_SHOWN = 40


def check_whole(name: str, value: object, *, least: int = 1, most: int = LARGEST) -> None:
    """Raise OptionError unless ``value`` is a whole number from ``least`` to ``most``."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise OptionError(f"{name} is {shown(value)}, but must be a whole number {_bounds(least, most)}.")


def parse_whole(name: str, text: str, *, least: int = 1, most: int = LARGEST) -> int:
    """Return the whole number that ``text`` is, in plain digits. Raises: OptionError as ``check_whole``."""
    number = int(text) if _DIGITS.fullmatch(text := text.strip()) else None
    check_whole(name, text if number is None else number, least=least, most=most)
    assert number is not None
    return number


def parse_wholes(name: str, text: str, *, least: int = 1, most: int = LARGEST) -> tuple[int, ...]:
    """Return the whole numbers in ``text``, which are separated by commas. Raises: OptionError as ``check_whole``."""
    return tuple(parse_whole(name, part, least=least, most=most) for part in text.split(","))


def check_seed(name: str, seed: object) -> None:
    """Raise OptionError unless ``seed`` may be a root seed: a number that every database and language holds."""
    check_whole(name, seed, least=0, most=_LARGEST_SEED)


def shown(value: object) -> str:
    """Return ``value`` as a message shows it, without the middle of a long one."""
    try:
        text = repr(value)
    except ValueError:
        # Python writes out no integer of more than 4,300 digits.
        return "a number of thousands of digits"
    return text if len(text) <= _MOST_SHOWN else f"{text[: _MOST_SHOWN // 2]}...{text[-_MOST_SHOWN // 2 :]}"


def _bounds(least: int, most: int) -> str:
    return f"of at least {least}" if most == LARGEST else f"in {least}..{most}"
