"""Looking up and removing in lists that are kept sorted (``bisect`` of Python's own puts in)."""

from __future__ import annotations

from bisect import bisect_left
from typing import TypeVar

Key = tuple[float, int]
"""A number to sort by, and what tells equals apart."""

_Item = TypeVar("_Item", int, Key)


def holds(items: list[_Item], item: _Item) -> bool:
    """Return whether an item is in a sorted list."""
    position = bisect_left(items, item)
    return position < len(items) and items[position] == item


def discard(items: list[_Item], item: _Item) -> bool:
    """Remove an item from a sorted list; return whether it was there."""
    position = bisect_left(items, item)
    if position < len(items) and items[position] == item:
        del items[position]
        return True
    return False
