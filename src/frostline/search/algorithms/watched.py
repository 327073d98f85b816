"""Successive halving that watches whether its rungs agree, and skips one that turns out not to rank."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice, repeat
from typing import TYPE_CHECKING

import numpy as np

from frostline.errors import LadderError
from frostline.records import Request, Status, loss_sign
from frostline.search.algorithms.halving import check_climb, divided, first_requests
from frostline.search.ladder import Ladder
from frostline.statistics.ranks import FEWEST, rank_correlations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.search.history import History
    from frostline.search.rung_history import RungHistory


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedHalving:
    """Synchronous successive halving; where a rung disagrees with the one above, it is skipped.

    When the configurations that a rung promoted have ended at the next, their order at the two is compared (Spearman). If
    it agrees less than ``least_agreement`` of that rung, its promotions rested on nothing: all that were not promoted are
    evaluated at the next rung too, as if the climb had begun there. That a rung's losers are eliminated therefore waits
    until the rung above has closed. Rungs with fewer than five survivors are not judged.
    Raises: LadderError as ``SuccessiveHalving``, or if there is not one least agreement for each rung but the last.
    """

    ladder: Ladder
    configurations: int
    reduction_factor: int = 3
    least_agreement: tuple[float, ...]

    def __post_init__(self) -> None:
        check_climb(self.configurations, len(self.ladder.rungs), self.reduction_factor)
        if len(self.least_agreement) != len(self.ladder.rungs) - 1:
            raise LadderError(
                f"{len(self.least_agreement)} least agreements were given for {len(self.ladder.rungs)} rungs: give one for "
                f"each rung but the last."
            )

    @property
    def fingerprint(self) -> str:
        """A string that changes when a study made with this search cannot be continued with another."""
        least = ", ".join(f"{value:.3f}" for value in self.least_agreement)
        return f"watched halving, reduction factor {self.reduction_factor}, least agreement {least}"

    def evaluations_per_rung(self) -> tuple[int, ...]:
        """Return how many evaluations each rung sees if all rungs agree and nothing fails; more where one is skipped."""
        return divided(self.configurations, len(self.ladder.rungs), self.reduction_factor)

    def started_per_rung(self) -> tuple[int, ...]:
        """Return how many configurations begin their climb at each rung."""
        return (self.configurations, *repeat(0, len(self.ladder.rungs) - 1))

    def next_requests(self, history: History, *, capacity: int) -> list[Request]:
        """See ``Search``."""
        if capacity < 1:
            return []
        first = first_requests(history, range(self.configurations), rung=0, capacity=capacity)
        if first:
            return first
        # All rungs below have closed.
        climb = self._climb(history)
        rung, contenders = len(climb) - 1, climb[-1]
        wanted = (Request(n, rung) for n in contenders if history.evaluation(n, rung) is None)
        return [*islice((request for request in wanted if request not in history.pending), capacity)]

    def eliminated(self, history: History) -> list[int]:
        """Return those that failed or diverged, and those that the rung above has closed upon without taking them."""
        climb = self._climb(history)
        found: set[int] = set()
        for rung, contenders in enumerate(climb[: len(self.ladder.rungs) - 1]):
            # So many may climb that only those are left out that cannot.
            found.update(self._rung(history, rung).beaten(limit=self.configurations))
            # Those beaten at this rung may yet be called upon, until the next rung has closed.
            if rung + 1 < len(climb) and self._is_closed(history, climb[rung + 1], rung + 1):
                found.update({*contenders} - {*climb[rung + 1]})
        return sorted(n for n in found if n not in history.eliminated and not history.is_pending(n))

    def skipped(self, history: History) -> tuple[int, ...]:
        """Return the rungs that were found not to rank, rising."""
        climb = self._climb(history)
        return tuple(rung for rung in range(len(climb) - 1) if self._disagrees(history, climb[rung], rung))

    def _climb(self, history: History) -> list[Sequence[int]]:
        """Return the configurations that each rung takes, as far as that follows from what has ended."""
        climb: list[Sequence[int]] = [range(self.configurations)]
        for rung in range(len(self.ladder.rungs) - 1):
            if not self._is_closed(history, climb[rung], rung):
                break
            ranked = self._ranked(history, climb[rung], rung)
            if not ranked:
                break
            disagrees = self._disagrees(history, climb[rung], rung)
            climb.append(ranked if disagrees else self._promoted(ranked, climb[rung]))
        return climb

    def _promoted(self, ranked: Sequence[int], contenders: Sequence[int]) -> Sequence[int]:
        return ranked[: max(1, len(contenders) // self.reduction_factor)]

    def _disagrees(self, history: History, contenders: Sequence[int], rung: int) -> bool:
        """Return whether those that a rung promotes have ended at the next, and are in too different an order there."""
        survivors = self._promoted(self._ranked(history, contenders, rung), contenders)
        if not self._is_closed(history, survivors, rung + 1):
            return False
        pairs = [(self._loss(history, n, rung), self._loss(history, n, rung + 1)) for n in survivors]
        lower, upper = (
            np.array([np.inf if loss is None else loss for loss in side]) for side in zip(*pairs, strict=True)
        )
        return len(pairs) >= FEWEST and bool(rank_correlations(lower, upper) < self.least_agreement[rung])

    def _rung(self, history: History, rung: int) -> RungHistory:
        return history.rung(rung, part=range(self.configurations))

    def _ranked(self, history: History, contenders: Sequence[int], rung: int) -> Sequence[int]:
        """Return, best first, those of ``contenders`` that finished at ``rung``."""
        ranking = self._rung(history, rung).order
        if len(contenders) == self.configurations:
            return ranking
        taken = {*contenders}
        return [number for number in ranking if number in taken]

    def _is_closed(self, history: History, contenders: Sequence[int], rung: int) -> bool:
        # Asked after every evaluation: most of the time fewer have ended than there are contenders.
        num_ended = self._rung(history, rung).num_ended
        if num_ended < len(contenders) or num_ended == self.configurations:
            return num_ended >= len(contenders)
        return all(history.evaluation(number, rung) is not None for number in contenders)

    def _loss(self, history: History, number: int, rung: int) -> float | None:
        evaluation = history.evaluation(number, rung)
        if evaluation is None or evaluation.status is not Status.FINISHED:
            return None
        assert evaluation.score is not None
        return loss_sign(history.direction) * evaluation.score
