"""Checks of the options of a task, which come as they were typed on the command line."""

from __future__ import annotations

from frostline.errors import OptionError


def require_positive(name: str, value: object) -> None:
    """Raise OptionError unless ``value`` is a whole number of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise OptionError(f"{name} is {value!r}, but must be a whole number of at least 1.")
