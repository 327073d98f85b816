"""Where a search stands and what it cost: the figures behind every table that is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from frostline.records import Evaluation, Fidelity, Status
from frostline.search.budgets.budgeted import BudgetedHalving
from frostline.search.history import History
from frostline.search.interface import Climb, Search


@dataclass(frozen=True, slots=True, kw_only=True)
class RungSummary:
    """One rung of a search.

    ``expected`` is how many evaluations it will see, None if that is open; an asynchronous search may make more.
    """

    rung: int
    fidelity: Fidelity
    expected: int | None
    ended: int
    diverged: int
    failed: int
    best: Evaluation | None
    seconds: float
    """Spent on this rung so far."""

    @property
    def seconds_each(self) -> float | None:
        """Mean seconds of an evaluation, None before the first has ended."""
        return self.seconds / self.ended if self.ended else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A search in figures.

    ``num_configurations`` are those of which an evaluation has ended, not all that were drawn. ``full_training_seconds`` is
    the mean time of training one configuration in full, as this search measured it, and None until it has; under a budget
    that of one's own, by which it is counted.
    """

    rungs: tuple[RungSummary, ...]
    num_configurations: int
    full_training_seconds: float | None
    has_ended: bool = False
    """Whether nothing is left to do, though rungs may have seen fewer than was expected of them."""

    @property
    def seconds(self) -> float:
        """Spent on training and validation in total."""
        return sum(rung.seconds for rung in self.rungs)

    @property
    def full_trainings(self) -> float | None:
        """The cost of the search as a number of full trainings, by the clock."""
        return None if not self.full_training_seconds else self.seconds / self.full_training_seconds

    @property
    def seconds_left(self) -> float | None:
        """What the evaluations still expected should take; None while nothing is known of any rung's cost."""
        left = [self.seconds_left_at(rung) for rung in self.rungs]
        known = [seconds for seconds in left if seconds is not None]
        return sum(known) if len(known) == len(left) else None

    def seconds_left_at(self, rung: RungSummary) -> float | None:
        """What the evaluations still expected at one rung should take; None while nothing is known of its cost."""
        if rung.expected is None:
            return None
        if self.has_ended:
            return 0.0
        missing = max(0, rung.expected - rung.ended)
        each = self._guess(rung.fidelity) if rung.seconds_each is None else rung.seconds_each
        if missing == 0:
            return 0.0
        return None if each is None else missing * each

    def _guess(self, fidelity: Fidelity) -> float | None:
        """Return the seconds of a rung not seen yet: those of the highest one seen, scaled by layers and samples.

        A step with n layers of which z are trained takes n + 2z layer passes (the method's cost model), and the last
        rung trains all n.
        """
        seen = next((rung for rung in reversed(self.rungs) if rung.ended), None)
        if seen is None or seen.seconds_each is None:
            return None
        num_layers = self.rungs[-1].fidelity.trainable_layers
        passes = [(num_layers + 2 * f.trainable_layers) * f.samples for f in (fidelity, seen.fidelity)]
        return seen.seconds_each * passes[0] / passes[1]


def summarise(history: History, rungs: Sequence[Fidelity], expected: Sequence[int]) -> Summary:
    """Return the figures of ``history`` on ``rungs`` that are to see ``expected`` evaluations each, () if that is open."""
    by_rung: list[list[Evaluation]] = [[] for _ in rungs]
    for evaluation in history.evaluations():
        by_rung[evaluation.rung].append(evaluation)
    summaries = []
    for index, (fidelity, evaluations) in enumerate(zip(rungs, by_rung, strict=True)):
        ranking = history.rung(index).ranking
        summaries.append(
            RungSummary(
                rung=index,
                fidelity=fidelity,
                expected=expected[index] if expected else None,
                ended=len(evaluations),
                diverged=sum(evaluation.status is Status.DIVERGED for evaluation in evaluations),
                failed=sum(evaluation.status is Status.FAILED for evaluation in evaluations),
                best=history.evaluation(ranking[0], index) if ranking else None,
                seconds=sum(evaluation.cost.seconds for evaluation in evaluations),
            )
        )
    return Summary(
        rungs=tuple(summaries),
        num_configurations=len({evaluation.number for evaluation in history.evaluations()}),
        full_training_seconds=_full_training_seconds(history, rungs),
    )


def expected_of(search: Search) -> Sequence[int]:
    """Return how many evaluations each rung sees if nothing fails; () if that turns out on the way."""
    if isinstance(search, BudgetedHalving) or not isinstance(search, Climb):
        return ()
    return search.evaluations_per_rung()


def best_evaluation(history: History) -> Evaluation | None:
    """Return the best evaluation at the highest rung that has a score; None if there is no score at all."""
    for rung in reversed(range(history.num_rungs)):
        ranking = history.rung(rung).ranking
        if ranking:
            return history.evaluation(ranking[0], rung)
    return None


def _full_training_seconds(history: History, rungs: Sequence[Fidelity]) -> float | None:
    """Return the mean seconds of a full training: of those made at once, as one's own under a budget.

    If there are none, of all, with the rungs that they continued counted in, as if each had begun but once.
    """
    last = len(rungs) - 1
    first = last
    while first > 0 and rungs[first - 1].trainable_layers == rungs[last].trainable_layers:
        first -= 1
    at_once: list[float] = []
    in_rungs: list[float] = []
    for number in history.rung(last).ranking:
        found = (history.evaluation(number, rung) for rung in range(first, last + 1))
        costs = [evaluation.cost for evaluation in found if evaluation is not None]
        begun_again = sum(cost.fixed_seconds for cost in costs[1:])
        whole = sum(cost.seconds for cost in costs) - begun_again
        (at_once if len(costs) == 1 else in_rungs).append(whole)
    seconds = at_once or in_rungs
    return sum(seconds) / len(seconds) if seconds else None
