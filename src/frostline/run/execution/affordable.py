"""A time that does not pay for one full training is refused as soon as the first steps tell it, not when it is over."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from frostline.errors import BudgetTooSmallError
from frostline.run.loop import SILENT, Observer, Together
from frostline.search.budgets.budget import FEWEST_FULL_TRAININGS
from frostline.search.budgets.budgeted import BudgetedHalving
from frostline.wording import duration

if TYPE_CHECKING:
    from frostline.records import Progress
    from frostline.search.budgets.budget import Budget
    from frostline.search.history import History
    from frostline.search.interface import Search

# Steps tell what a training takes after so many seconds of them, or half of the budget if that is less. The first step,
# which may compile or fill caches, does not count.
_SECONDS = 5.0

# By how much a training that was foreseen may exceed the budget: what is foreseen from few steps is not exact.
_EXCESS = 1.5


@dataclass(frozen=True, slots=True)
class _Mark:
    samples: int
    seconds: float


class AffordableTraining(Observer):
    """Watches the first training of a search within a time, and refuses a budget that it is going to exceed by far."""

    def __init__(self, budget: Budget, *, full_samples: int, rung: int) -> None:
        self._words = f"{budget}"
        self._budget = budget.seconds or math.inf
        self._full_samples = full_samples
        self._rung = rung
        self._is_over = False
        self._begin: _Mark | None = None
        self._first_step: _Mark | None = None

    def began(self, _search: Search, history: History) -> None:
        """See ``Observer``."""
        self._is_over = history.rung(self._rung).num_ended > 0

    def progressed(self, progress: Progress) -> None:
        """See ``Observer``. Raises: BudgetTooSmallError if the budget does not pay for a full training, nor nearly."""
        if progress.rung != self._rung or progress.members > 1:
            return
        # One that has come to its end is no longer to be kept from it.
        self._is_over = self._is_over or progress.samples >= progress.budget
        if self._is_over:
            return
        now = _Mark(progress.samples, time.perf_counter())
        if self._begin is None or progress.samples == progress.started:
            self._begin, self._first_step = now, None
        elif self._first_step is None:
            self._first_step = now
            if now.seconds - self._begin.seconds > self._budget:
                self._refuse(self._whole(self._begin, now))
        elif now.seconds - self._first_step.seconds >= min(_SECONDS, self._budget / 2):
            self._is_over = True
            if (whole := self._whole(self._first_step, now)) > _EXCESS * self._budget:
                self._refuse(whole)

    def _whole(self, before: _Mark, now: _Mark) -> float:
        """Return the seconds that a full training takes at the pace between two marks."""
        return (now.seconds - before.seconds) * self._full_samples / max(1, now.samples - before.samples)

    def _refuse(self, whole: float) -> None:
        raise BudgetTooSmallError(
            f"a budget of {self._words} does not pay for one full training, which takes about {duration(whole)} "
            f"here: give at least {duration(whole)}, or {duration(FEWEST_FULL_TRAININGS * whole)} to search."
        )


def within_budget(search: Search, observer: Observer) -> Observer:
    """Return ``observer``, which also refuses a time that is too short for the first training of ``search``."""
    if not isinstance(search, BudgetedHalving) or search.budget.seconds is None:
        return observer
    ladder = search.ladder
    watch = AffordableTraining(search.budget, full_samples=ladder.full_samples, rung=search.first_rung)
    return watch if observer is SILENT else Together(observer, watch)
