"""How far a search is, and when it will end: seconds of training that are done, against the clock on the wall."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from frostline.search.budgets.budgeted import BudgetedHalving

if TYPE_CHECKING:
    from frostline.run.outcome.summary import Summary
    from frostline.search.history import History
    from frostline.search.interface import Search

# A bar is full when the search has ended, and not before.
_MOST_WHILE_RUNNING = 0.99


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Seconds of training: those done, and all there are to do; None while nothing tells how many."""

    done: float
    total: float | None


def work_of(search: Search, history: History, summary: Summary) -> Work:
    """Return how much of its budget, or of its expected evaluations, a search has done."""
    # Slow to import; a view that is being prepared does without.
    from frostline.search.algorithms.realigned import inner_search

    asked = inner_search(search)
    if not isinstance(asked, BudgetedHalving):
        left = summary.seconds_left
        return Work(done=summary.seconds, total=None if left is None else summary.seconds + left)
    if not asked.decided(history):
        # A number of full trainings is no time before the first has ended.
        return Work(done=summary.seconds, total=asked.budget.seconds)
    spent, allowed = asked.spent(history)
    return Work(done=spent, total=allowed)


class Pace:
    """Makes a share and a time left of what was done at some moments; both go on between them. Units: seconds."""

    def __init__(self, now: float) -> None:
        self._begin = self._noted_at = now
        self._first: Work | None = None
        self._work = Work(done=0.0, total=None)
        self.usual_rate = 1.0
        """Seconds of training done in a second, as long as nothing was seen to end."""

    def note(self, work: Work, now: float) -> None:
        """Take down what is done ``now``."""
        if self._first is None:
            self._first = work
        self._work, self._noted_at = work, now

    def elapsed(self, now: float) -> float:
        """Return the seconds since the beginning."""
        return now - self._begin

    def left(self, now: float) -> float | None:
        """Return the seconds until the end; None while nothing tells."""
        if self._work.total is None:
            return None
        at_note = max(0.0, self._work.total - self._work.done) / self._rate
        return max(0.0, at_note - (now - self._noted_at))

    def share(self, now: float) -> float | None:
        """Return the share that is done; None while nothing tells."""
        left = self.left(now)
        if left is None or not self._work.total:
            return None
        return max(0.0, min(_MOST_WHILE_RUNNING, 1 - left * self._rate / self._work.total))

    @property
    def _rate(self) -> float:
        """Seconds of training done in a second: several, where processes train side by side."""
        passed, begun = self._noted_at - self._begin, 0.0 if self._first is None else self._first.done
        done = self._work.done - begun
        return done / passed if passed > 0 and done > 0 else self.usual_rate
