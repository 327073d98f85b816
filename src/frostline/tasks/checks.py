"""Checks of the options of a task, which come as they were typed on the command line."""

from __future__ import annotations

from collections.abc import Sequence

from frostline.errors import OptionError
from frostline.inputs.whole_numbers import check_whole, shown


def require_positive(name: str, value: object) -> None:
    """Raise OptionError unless ``value`` is a whole number of at least 1, and one that can be computed with."""
    check_whole(name, value)


def require_one_of(name: str, value: object, allowed: Sequence[str]) -> None:
    """Raise OptionError unless ``value`` is one of the ``allowed`` words."""
    if value not in allowed:
        words = " or ".join(map(repr, allowed))
        raise OptionError(f"{name} is {shown(value)}, but must be {words}.")
