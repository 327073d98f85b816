"""Sizes of memory in words: "8GiB"."""

from __future__ import annotations

import re

from frostline.errors import OptionError

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def parse_size(text: str) -> int:
    """Return the bytes that ``text`` names, such as "8GiB", "500 MB" or "1000000".

    Raises: OptionError if it names none, or none above 0.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", text)
    unit = _UNITS.get(match[2].upper()) if match else None
    size = 0 if match is None or unit is None else int(float(match[1]) * unit)
    if size < 1:
        raise OptionError(f"{text!r} is no size: give a number and a unit, such as 8GiB or 500MB.")
    return size


def format_size(num_bytes: int) -> str:
    """Return ``num_bytes`` in words, to three digits: "1.5 GiB"."""
    for unit, size in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if num_bytes >= size:
            return f"{num_bytes / size:.3g} {unit}"
    return f"{num_bytes} B"
