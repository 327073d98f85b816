"""Checks of the options of a task, which come as they were typed on the command line."""

from __future__ import annotations

from frostline.inputs.whole_numbers import check_whole


def require_positive(name: str, value: object) -> None:
    """Raise OptionError unless ``value`` is a whole number of at least 1, and one that can be computed with."""
    check_whole(name, value)
