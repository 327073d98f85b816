"""Successive halving that is sized by a budget and by what its evaluations turn out to cost."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from frostline.records import Request
from frostline.search.algorithms.halving import first_requests
from frostline.search.budgets.climb_decisions import ClimbDecisions
from frostline.search.budgets.climb_terms import ClimbTerms
from frostline.search.budgets.planned_climb import late_shares, usual_shares

if TYPE_CHECKING:
    from frostline.search.budgets.budget import Budget
    from frostline.search.history import History
    from frostline.search.ladder import Ladder


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetedHalving(ClimbTerms):
    """Synchronous successive halving within a budget: wide at the bottom, and as many at every rung as it still allows.

    The first ``num_own`` configurations are one's own: each is trained in full, and first, whatever the rungs would say of
    it, so that the answer is never worse. They also tell what a full training takes. If there are none, the first that is
    drawn tells it, at the lowest rung of all layers, where it competes with those that climb so far. Of the others, the
    candidates, some begin at the lowest rung; when these have ended their mean cost says how many more do. When a rung has
    closed, as many of its best climb as the rest of the budget pays for, each with the climb that is planned for it: of the
    candidates at a rung the share ``kept`` of that rung goes on, or ``kept_late`` where few layers save no time. To more
    layers climb those that are good and unlike each other, since few layers may want other values than all
    (docs/decisions/0046-unlike-each-other.md).
    Where a rung of few layers tells nothing (``silence``), nobody climbs to another of as few: the search goes on
    with more layers, for as many as that leaves.
    Who took longer than others is reckoned to take longer above. What is decided when is in ``ClimbDecisions``. With a
    larger budget later the rungs open again. Below ``FEWEST_FULL_TRAININGS`` only the first are trained.
    Raises: LadderError if a share is not above 0 and up to 1, there are too few or too many, or num_own is below 0.
    """

    @classmethod
    def usual(
        cls, ladder: Ladder, budget: Budget, *, num_initial: int = 0, most: int | None = None
    ) -> BudgetedHalving:
        """Return the search on ``ladder`` whose own configurations are the initial ones."""
        return cls(
            ladder=ladder,
            kept=usual_shares(ladder),
            kept_late=late_shares(ladder),
            budget=budget,
            num_own=num_initial,
            most=most,
        )

    @property
    def fingerprint(self) -> str:
        """A string that changes when a study made with this search cannot be continued with another."""
        return f"budgeted halving, kept {', '.join(f'{share:g}' for share in self.kept)}, own {self.num_own}"

    def spent(self, history: History) -> tuple[float, float]:
        """Return the seconds that evaluations took, and those of the budget; the first have ended."""
        seconds = sum(evaluation.cost.seconds for evaluation in history.evaluations())
        costs = ClimbDecisions(self, history).costs
        return seconds, costs.budget(costs.full_training_by(len(self.ladder.rungs)))

    def full_trainings(self, history: History) -> float:
        """Return the budget in full trainings, as the first of them told what one takes; the first have ended."""
        costs = ClimbDecisions(self, history).costs
        return costs.budget(costs.full_training) / costs.full_training

    def own_stay_alone(self, history: History) -> bool:
        """Return whether nobody is trained in full beside one's own, since what is left does not pay for it."""
        top = len(self.ladder.rungs) - 1
        return self.num_own > 0 and history.rung(0).num_ended > 0 and history.rung(top).num_started == self.num_own

    def decided(self, history: History) -> tuple[int, ...]:
        """Return how many evaluations the lowest rungs see, those for which that is decided."""
        if not self._first_have_ended(history):
            return ()
        decided = ClimbDecisions(self, history).made()
        return tuple(decided.expected(rung) + self.num_first_at(rung) for rung in range(max(decided.quotas) + 1))

    def next_requests(self, history: History, *, capacity: int) -> list[Request]:
        """See ``Search``."""
        first = self.first
        if not self._first_have_ended(history):
            requests = first_requests(history, first, rung=self.first_rung, capacity=capacity)
            # Whoever else has room begins with candidates, of which so many begin in any case.
            wave = self.scouts(None) or range(first.stop, first.stop + self.first_wave(None))
            return requests + first_requests(history, wave, rung=0, capacity=capacity - len(requests))
        decided = ClimbDecisions(self, history).made()
        requests = first_requests(history, decided.candidates, rung=0, capacity=capacity)
        requests += first_requests(history, decided.late, rung=1, capacity=capacity - len(requests))
        quotas = decided.quotas | decided.wave
        for _, higher in pairwise(quotas):
            if requests:
                break
            climbing = decided.contenders[higher].promotable(limit=quotas[higher], most=capacity)
            requests = [Request(number, higher) for number in climbing]
        return requests

    def eliminated(self, history: History) -> list[int]:
        """See ``Climb``: those of a closed rung that its quota leaves behind."""
        if not self._first_have_ended(history):
            return []
        decided, found = ClimbDecisions(self, history).made(), []
        for _, higher in pairwise(decided.quotas):
            found += decided.contenders[higher].beaten(limit=decided.quotas[higher], is_closed=True)
        return sorted(found)

    def _first_have_ended(self, history: History) -> bool:
        return history.rung(self.first_rung, part=self.first).num_ended == len(self.first)
