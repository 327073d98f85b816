"""What a search within a budget has decided so far."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class DecidedClimb:
    """What a search has decided: whoever it names climbs, whatever becomes known later."""

    candidates: range
    """The numbers of those who begin at the lowest rung."""
    late: range
    """The numbers after them, of those who begin at the next rung, with all layers."""
    quotas: dict[int, int]
    """How many of the best climb to each rung as far as that is decided, the lowest first. A rung that is skipped is not
    among them."""
    besides: dict[int, int] = field(default_factory=dict)
    """How many others come to a rung."""
    wave: dict[int, int] = field(default_factory=dict)
    """To the rung above them, if that is not decided: how many climb in any case, and so tell what it takes."""

    @classmethod
    def beginning(cls, candidates: range) -> DecidedClimb:
        """Return what is decided when nothing is but that these begin at the lowest rung."""
        return cls(candidates, range(candidates.stop, candidates.stop), {0: len(candidates)})

    @property
    def everyone(self) -> range:
        """The numbers of all who compete, but for the first."""
        return range(self.candidates.start, self.late.stop)

    def climbing(self, rung: int, quota: int, *, others: int = 0) -> DecidedClimb:
        """Return the same with a ``quota`` of the best that climbs to ``rung``, where ``others`` come besides."""
        return replace(self, quotas=self.quotas | {rung: quota}, besides=self.besides | {rung: others})

    def expected(self, rung: int) -> int:
        """Return how many come to ``rung``, beside the first."""
        return self.quotas.get(rung, 0) + self.besides.get(rung, 0)


def with_early(quota: int, ranking: Sequence[int], early: Sequence[int], *, least: int) -> tuple[int, int]:
    """Return how many of the best climb so that they and those that went early are a quota, and how many are not among them.

    At least ``least`` of the best climb.
    """

    def others(number: int) -> int:
        return len({*early}.difference(ranking[:number]))

    number = next((number for number in range(quota, least, -1) if number + others(number) <= quota), least)
    return number, others(number)
