"""Numbers of bytes as people write them."""

from __future__ import annotations

import re
from fractions import Fraction

from frostline.errors import OptionError
from frostline.inputs.whole_numbers import shown

_BINARY = ("B", "KiB", "MiB", "GiB", "TiB")
_DECIMAL = ("B", "KB", "MB", "GB", "TB")
_BYTES = {name.lower(): 1000**power for power, name in enumerate(_DECIMAL)} | {
    name.lower(): 1024**power for power, name in enumerate(_BINARY)
}
_SIZE = re.compile(r"(\d{1,20}(?:\.\d{1,20})?)\s*([a-z]*)", re.IGNORECASE | re.ASCII)
# What 64 bits address.
_LARGEST = 2**64


def parse_size(text: str) -> int:
    """Return the bytes that ``text`` says: "8GiB", "500MB", "1.5 GiB", or a plain number of bytes.

    Capitals do not matter. A part of a byte is dropped.
    Raises: OptionError if it is no size.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None or match[2].lower() not in {"", *_BYTES}:
        units = ", ".join(dict.fromkeys(_DECIMAL + _BINARY))
        raise OptionError(
            f"{shown(text)} is no size: write a number and one of {units}, such as 8GiB, or plain bytes."
        )
    num_bytes = int(Fraction(match[1]) * _BYTES.get(match[2].lower(), 1))
    if num_bytes > _LARGEST:
        raise OptionError(
            f"{shown(text)} is more than the {_LARGEST // 1024**4:,}TiB that 64 bits address: write less."
        )
    return num_bytes


def format_size(num_bytes: int) -> str:
    """Return ``num_bytes``, which are not below 0, as "1.5 GiB", with one decimal at most."""
    assert num_bytes >= 0
    power = 0
    # Compared as it is going to be rounded: nothing reads "1024 KiB".
    while round(num_bytes / 1024**power, 1) >= 1024 and power < len(_BINARY) - 1:
        power += 1
    return f"{round(num_bytes / 1024**power, 1):.1f}".removesuffix(".0") + f" {_BINARY[power]}"
