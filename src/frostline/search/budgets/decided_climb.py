"""What a search within a budget has decided so far."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from frostline.search.rung_history import RungHistory


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
    contenders: dict[int, RungHistory] = field(default_factory=dict)
    """Of whom some climb to a rung, as they are known at the one below, without those who are passed over."""

    @classmethod
    def beginning(cls, candidates: range) -> DecidedClimb:
        """Return what is decided when nothing is but that these begin at the lowest rung."""
        return cls(candidates, range(candidates.stop, candidates.stop), {0: len(candidates)})

    @property
    def everyone(self) -> range:
        """The numbers of all who compete, but for the first."""
        return range(self.candidates.start, self.late.stop)

    def climbing(self, rung: int, quota: int, contenders: RungHistory, *, others: int = 0) -> DecidedClimb:
        """Return the same with a ``quota`` of the best of ``contenders`` climbing to ``rung``; ``others`` come besides."""
        return replace(
            self,
            quotas=self.quotas | {rung: quota},
            besides=self.besides | {rung: others},
            contenders=self.contenders | {rung: contenders},
        )

    def expected(self, rung: int) -> int:
        """Return how many come to ``rung``, beside the first."""
        return self.quotas.get(rung, 0) + self.besides.get(rung, 0)

    def waiting(self, rung: int, wave: int, contenders: RungHistory) -> DecidedClimb:
        """Return the same with a ``wave`` of the best of ``contenders`` climbing to ``rung``, whatever is decided then."""
        return replace(self, wave={rung: wave}, contenders=self.contenders | {rung: contenders})
