"""The climb that is planned under a budget: which share of each rung goes on, and so how many a sum pays for."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.search.ladder import Ladder
    from frostline.search.rung_history import RungHistory

# From so many rungs on a ladder is fine: what one rung leaves too many, the next one sorts out.
_FINE = 4

# Samples that grow so much from one rung to the next tell more, and cost more.
_LARGE_STEP = 3


def usual_shares(ladder: Ladder) -> tuple[float, ...]:
    """Return which share of each rung but the last goes on: a third on a coarse ladder, up to a half on a fine one.

    Source: docs/decisions/0039-few-layers-once.md, where ladders and shares were compared on recorded tables.
    """
    rungs = ladder.rungs
    if len(rungs) < _FINE:
        return (1 / 3,) * (len(rungs) - 1)
    first = 0.4 if ladder.continues(1) else 1 / 3
    later = (0.4 if above.samples >= _LARGE_STEP * here.samples else 0.5 for here, above in pairwise(rungs[1:]))
    return (first, *later)


def late_shares(ladder: Ladder) -> tuple[float, ...]:
    """Return the same for those who begin above the lowest rung, with all layers, since few of them save no time.

    On a coarse ladder fewer of the first go on: nobody has sorted them out before. Source: decision 39, too.
    """
    shares = usual_shares(ladder)[1:]
    coarse = [1 / 4, *(1 / 3 for _ in shares[1:])][: len(shares)]
    return tuple(coarse) if len(shares) < _FINE - 1 else shares


@dataclass(frozen=True, slots=True)
class PlannedClimb:
    """What is planned for those at a rung: of each rung but the last the share ``kept`` goes on, and one in any case."""

    kept: tuple[float, ...]
    most: int | None = None
    """How many configurations there are at most; None: as many as are paid for."""

    def counts(self, count: int, rung: int) -> list[int]:
        """Return how many of ``count`` at ``rung`` are planned for it and each rung above."""
        return [
            *accumulate(
                self.kept[rung:], lambda number, share: max(min(1, number), int(number * share)), initial=count
            )
        ]

    def affordable(
        self, left: float, prices: Sequence[float], rung: int, *, climbing: RungHistory | None = None
    ) -> int:
        """Return how many may come to ``rung`` if they and their planned climb are to cost at most ``left``.

        ``prices`` are those of a climb to each rung. ``climbing`` is the rung from which the best come, if any do: who took
        longer there than others takes longer above.
        """

        def cost(count: int) -> float:
            planned = zip(self.counts(count, rung), prices[rung:], strict=True)
            cost = sum(number * price for number, price in planned)
            return cost if climbing is None else cost * climbing.dearness(count)

        most = int(left / prices[rung]) if climbing is None else len(climbing.ranking)
        affordable = bisect_right(range(1, most + 1), left, key=cost)
        return affordable if self.most is None else min(affordable, self.most)
