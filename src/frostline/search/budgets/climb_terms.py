"""What a search within a budget is given, and what is planned of it before any cost is known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from frostline.errors import LadderError
from frostline.search.budgets.budget import FEWEST_FULL_TRAININGS, Budget
from frostline.search.budgets.planned_climb import PlannedClimb
from frostline.search.budgets.rung_prices import guessed_prices
from frostline.search.ladder import Ladder, LadderRow, rows_of

if TYPE_CHECKING:
    from frostline.search.budgets.rung_prices import Costs

TOLERANCE = 0.03
"""By how much of the budget the last full training may exceed it."""

# Half of the candidates that the guess allows begin before anything is known of the cost of few layers, but no more than
# tell that well.
_FIRST_WAVE = 0.5
_LARGEST_FIRST_WAVE = 16

# So many of them begin first, of whom some train all layers next: they tell whether few layers save enough time.
# If not, the others begin with all layers (docs/decisions/0039-few-layers-once.md).
_SCOUTS = 6

EARLY = 2
"""So many of the scouts train all layers before their rung is closed."""

# Of a budget.
_LARGEST_SHARE_OF_SCOUTS = 1 / 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ClimbTerms:
    """A ladder, which share of each rung goes on, what all may cost, and how many configurations are one's own.

    The first ``num_own`` configurations are one's own, those after them the candidates.
    Raises: LadderError if a share is not above 0 and up to 1, there are too few or too many, or num_own is below 0.
    """

    ladder: Ladder
    kept: tuple[float, ...]
    budget: Budget
    num_own: int = 1
    most: int | None = None
    """How many configurations there are to try at most, one's own included; None: as many as the budget pays for."""
    kept_late: tuple[float, ...] | None = None
    """The shares from the second rung on of those who begin there, if few layers save no time; None: those of ``kept``."""

    def __post_init__(self) -> None:
        self._check_shares("kept", self.kept, len(self.ladder.rungs) - 1)
        if self.kept_late is not None:
            self._check_shares("kept_late", self.kept_late, len(self.ladder.rungs) - 2)
        if self.num_own < 0:
            raise LadderError(f"num_own is {self.num_own}, but it is a number of configurations: give 0 or more.")

    def _check_shares(self, name: str, shares: tuple[float, ...], number: int) -> None:
        if len(shares) != number or not all(0 < share <= 1 for share in shares):
            raise LadderError(
                f"{name} is {shares}, but must be shares above 0 and up to 1, one for each of the {number} rungs from which "
                f"those climb."
            )

    @property
    def late(self) -> Self:
        """The same for those who begin at the second rung, with all layers."""
        return self if self.kept_late is None else replace(self, kept=(*self.kept[:1], *self.kept_late))

    @property
    def climb(self) -> PlannedClimb:
        """The climb that is planned for the candidates."""
        return PlannedClimb(self.kept, None if self.most is None else self.most - len(self.first))

    @property
    def first(self) -> range:
        """The numbers of those that tell what a full training takes: one's own, or else the first that is drawn."""
        return range(max(1, self.num_own))

    @property
    def next_ones(self) -> range:
        """The numbers of those that tell it if none of the first comes to its end: as many as there are scouts."""
        return range(self.first.stop, self.first.stop + _SCOUTS)

    @property
    def first_rung(self) -> int:
        """Where these begin: the top, or with none of one's own the lowest rung of all layers."""
        return len(self.ladder.rungs) - 1 if self.num_own else self.ladder.lowest_whole

    @property
    def first_cost(self) -> float:
        """What the first take where they begin, in full trainings."""
        return len(self.first) * self.ladder.rungs[self.first_rung].samples / self.ladder.full_samples

    @property
    def configurations(self) -> int:
        """How many configurations are planned, before any cost is known."""
        return sum(self.started_per_rung())

    @property
    def searches(self) -> bool:
        """Whether the budget is known to be large enough to search; of a time that turns out on the way."""
        return self.budget.seconds is not None or self.guessed(None) > 0

    def num_first_at(self, rung: int) -> int:
        """Return how many of the first begin at ``rung``."""
        return len(self.first) if rung == self.first_rung else 0

    def contenders(self, candidates: range, rung: int) -> range:
        """Return those of whom some climb from ``rung``: with none of one's own, from its first rung on the first too."""
        return range(0 if rung >= self.first_rung else candidates.start, candidates.stop)

    def evaluations_per_rung(self) -> tuple[int, ...]:
        """Return how many evaluations each rung is planned to see, before any cost is known."""
        climbing, prices = self.guessed(None), guessed_prices(self.ladder)
        left = (self.budget.full_trainings or 0.0) * (1 + TOLERANCE) - self.first_cost
        counts: list[int] = []
        for rung, price in enumerate(prices):
            if rung > 0:
                climbing = min(max(1, self.climb.affordable(left, prices, rung)), counts[-1])
            left -= climbing * price
            counts.append(climbing + self.num_first_at(rung))
        return tuple(counts)

    def started_per_rung(self) -> tuple[int, ...]:
        """Return how many configurations begin their climb at each rung."""
        begun = (self.guessed(None), *(0 for _ in self.kept))
        return tuple(count + self.num_first_at(rung) for rung, count in enumerate(begun))

    def rows(self) -> tuple[LadderRow, ...]:
        """Return what is planned for each rung and what it is guessed to cost, the frozen layers shared."""
        counts, prices = self.evaluations_per_rung(), guessed_prices(self.ladder)
        costs = [count * price for count, price in zip(counts, prices, strict=True)]
        costs[self.first_rung] += self.first_cost - len(self.first) * prices[self.first_rung]
        return rows_of(self.ladder.rungs, counts, costs)

    def scouts(self, costs: Costs | None) -> range:
        """Return those of the first candidates that tell whether few layers save time, if the next rung trains all.

        Without ``costs``: those that begin in any case. With none of one's own the first has ended soon, and if a training
        takes long to begin they are fewer.
        """
        number = min(_SCOUTS, self.first_wave(costs)) if self.ladder.lowest_whole == 1 else 0
        if self.num_own == 0:
            most = EARLY if costs is None else costs.within_budget(0, share=_LARGEST_SHARE_OF_SCOUTS)
            number = min(number, max(EARLY, most))
        return range(self.first.stop, self.first.stop + number)

    def first_wave(self, costs: Costs | None) -> int:
        """Return how many candidates begin before any has told what few layers cost."""
        guessed = self.guessed(costs)
        return min(_LARGEST_FIRST_WAVE, max(min(1, guessed), round(_FIRST_WAVE * guessed)))

    def guessed(self, costs: Costs | None) -> int:
        """Return how many candidates the budget allows if rungs cost what is guessed of them; 0: too few to search.

        ``costs`` tell how many full trainings a budget of a time is; without them that is none.
        """
        full_trainings = self.budget.full_trainings
        if full_trainings is None:
            full_trainings = 0.0 if costs is None else costs.budget(costs.full_training) / costs.full_training
        if full_trainings < FEWEST_FULL_TRAININGS:
            return 0
        return self.climb.affordable(full_trainings - self.first_cost, guessed_prices(self.ladder), 0)
