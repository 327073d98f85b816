"""How much is searched, as options say it: what a search may cost, or how many configurations it tries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from frostline.errors import OptionError
from frostline.search.algorithms.halving import CONFIGURATIONS
from frostline.search.algorithms.search_names import DIAGONAL, HALVING, SIEVE, search_named, takes_reduction_factor
from frostline.search.budgets.budget import FEWEST_FULL_TRAININGS, Budget
from frostline.search.budgets.budgeted import BudgetedHalving
from frostline.search.ladder import rows_table

if TYPE_CHECKING:
    from frostline.search.interface import Climb
    from frostline.search.ladder import Ladder


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSize:
    """A search by name, and how much it searches; None: nothing was said.

    Raises: OptionError if it is no budget, or what else was said does not go with one.
    """

    search: str = HALVING
    budget: str | None = None
    configurations: int | None = None
    reduction_factor: int | None = None
    learns_alignment: bool = False
    """Whether ``--align auto`` is said: it learns from how many are promoted, which only a number of them tells before."""

    def __post_init__(self) -> None:
        if self.reduction_factor is not None and not takes_reduction_factor(self.search):
            raise OptionError(
                f"--reduction-factor is {self.reduction_factor}, but --search {self.search} eliminates nobody: leave "
                f"one of them out."
            )
        if self.budget is None:
            return
        Budget.parse(self.budget)
        for option, is_said in (
            ("--configurations", self.configurations is not None),
            ("--search", self.search != HALVING),
            ("--reduction-factor", self.reduction_factor is not None),
            ("--align auto", self.learns_alignment),
        ):
            if is_said:
                raise OptionError(
                    f"--budget {self.budget} finds out by itself how many configurations it pays for, in successive "
                    f"halving: leave out {option}, or the budget."
                )

    @property
    def is_budgeted(self) -> bool:
        """Whether the search is sized by what it may cost: if that is said, or nothing else."""
        if self.budget is not None:
            return True
        others = (self.configurations, self.reduction_factor)
        return self.search == HALVING and others == (None, None) and not self.learns_alignment

    @property
    def usual_ladder(self) -> str:
        """The name of the ladder that it climbs if nobody says."""
        return SIEVE if self.is_budgeted else DIAGONAL

    def climb(self, ladder: Ladder, *, num_initial: int = 1, most: int | None = None) -> Climb:
        """Return the search on ``ladder``.

        Under a budget the initial configurations, a task's own one unless they are said, are trained in full, and at most
        ``most`` are tried.
        """
        if not self.is_budgeted:
            factory = search_named(self.search, self.reduction_factor)
            return factory(
                ladder=ladder,
                configurations=CONFIGURATIONS if self.configurations is None else self.configurations,
            )
        return BudgetedHalving.usual(ladder, Budget.of(self.budget), num_initial=num_initial, most=most)


def ladder_table(ladder: Ladder, plan: Climb, sample_unit: str) -> str:
    """Return the table of the rungs that ``plan`` climbs, and what each costs."""
    if not isinstance(plan, BudgetedHalving):
        counts = plan.evaluations_per_rung()
        return ladder.table(counts, started_per_rung=plan.started_per_rung(), sample_unit=sample_unit)
    if not plan.searches:
        first = "the first configuration that is drawn" if plan.num_own == 0 else "one's own configuration"
        if plan.most is not None and plan.most <= len(plan.first):
            return f"the search space holds nothing else to try: {first} is trained in full, and that is all."
        return (
            f"a budget of {plan.budget} is too small to search, which takes {FEWEST_FULL_TRAININGS:g}: {first} is trained "
            f"in full, and that is all."
        )
    first = {
        0: "one with all layers first, to tell what that takes",
        1: "one's own configuration in full first",
    }.get(plan.num_own, f"the first {plan.num_own} configurations in full")
    sized = f"budget {plan.budget}: {first}, then as many at each rung as the rest turns out to pay for"
    if plan.budget.seconds is not None:
        return f"{ladder.single_table(sample_unit=sample_unit)}\n{sized}."
    return f"{rows_table(plan.rows(), sample_unit)}\n{sized}; planned for what rungs are guessed to cost."
