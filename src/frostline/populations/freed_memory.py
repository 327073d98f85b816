"""Memory that members free and malloc keeps for the next step: given back before it becomes more than one member needs."""

from __future__ import annotations

import time

from frostline.process import resident_bytes, trim_freed_memory

# Of what the process had in memory when its first member had made a step.
_MOST = 1.1
# A look takes some ten microseconds: members that make their steps more quickly are not worth it.
_SECONDS_BETWEEN_LOOKS = 0.05


class FreedMemory:
    """Watches what a process has in memory while members make their steps in turn, and gives back what lies idle of it.

    What one member frees the next one finds in pieces of other sizes, between what is still held: kept for good, eight
    members come to take half as much again as one. How much is given back, and what that takes: docs/decisions/0034.
    """

    def __init__(self) -> None:
        self._looked = 0.0
        self._usual: int | None = None
        self._step: int | None = None
        self._most = 0.0

    def look(self) -> bool:
        """Look after a member's step whether too much lies idle, and return whether it was given back."""
        now = time.perf_counter()
        if now - self._looked < _SECONDS_BETWEEN_LOOKS:
            return False
        self._looked = now
        resident = resident_bytes()
        if resident is None:
            return False
        if self._usual is None:
            self._usual, self._most = resident, _MOST * resident
        if resident <= self._most:
            return False
        trim_freed_memory()
        # What is held may have grown, as by outputs that are kept over epochs: then more is usual.
        held = resident_bytes() or resident
        if self._step is None:
            self._step = max(0, self._usual - held)
        self._most = _MOST * max(self._usual, held + self._step)
        return True
