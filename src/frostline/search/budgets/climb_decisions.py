"""What a search within a budget decides, given what has ended: how many begin, and how many climb to each rung."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from frostline.search.algorithms.silence import tells_nothing
from frostline.search.budgets.climb_terms import EARLY, TOLERANCE
from frostline.search.budgets.decided_climb import DecidedClimb
from frostline.search.budgets.rung_prices import Costs
from frostline.search.budgets.savings import LEAST_SAVED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.search.budgets.climb_terms import ClimbTerms
    from frostline.search.history import History
    from frostline.search.rung_history import RungHistory

# By how much of the budget a training may exceed it that would otherwise be the only one of a candidate.
_EXCESS = 0.1


@dataclass(frozen=True, slots=True)
class _Funds:
    """What a search may cost, what it has spent, and what climbing to each rung from the one below is reckoned to take."""

    budget: float
    spent: float
    prices: Sequence[float]

    @property
    def left(self) -> float:
        return self.budget * (1 + TOLERANCE) - self.spent


@dataclass(frozen=True)
class ClimbDecisions:
    """What is decided of a search once its first configurations have ended.

    Each decision rests on the seconds of evaluations that have all ended, so that it is made again the same whatever becomes
    known later, and resuming is replaying. They come in this order:

    1. Some *scouts* begin with few layers, and the best of these, the *early* ones, train all layers next.
    2. If few layers save enough time, a first wave of candidates begins, and then as many as its costs allow. If not, all
       others begin *late*, with all layers.
    3. When a rung has closed, as many of its best climb as the rest of the budget pays for, with the climb that is planned
       for them. Where all layers are trained for the first time a third of them goes first, and tells what that takes.
    """

    terms: ClimbTerms
    history: History

    @cached_property
    def costs(self) -> Costs:
        """What the search has cost so far."""
        terms = self.terms
        return Costs(
            self.history,
            ladder=terms.ladder,
            budget=terms.budget,
            first=terms.first,
            first_rung=terms.first_rung,
            next_ones=terms.next_ones,
        )

    @cached_property
    def scouts(self) -> range:
        """The candidates that begin first."""
        return self.terms.scouts(self.costs)

    @cached_property
    def early(self) -> Sequence[int]:
        """The scouts that train all layers before the lowest rung is closed. All scouts have ended."""
        # Without scouts the first that is drawn may stand alone there.
        return self.climbing_from(0, self.scouts).order[:EARLY] if self.scouts else ()

    def made(self) -> DecidedClimb:
        """Return what is decided by now."""
        scouts = DecidedClimb.beginning(self.scouts)
        if self.climbing_from(0, self.scouts).num_ended < len(self.scouts):
            return scouts
        saved = self.costs.share_saved(self.early, 0, self.terms.ladder.lowest_whole)
        if saved is None:
            return scouts.waiting(1, len(self.early), self.climbing_from(0, self.scouts))
        if saved < LEAST_SAVED:
            return replace(self, terms=self.terms.late)._with_late(scouts)
        return self._climbed(DecidedClimb.beginning(self._candidates()), rung=0)

    def climbing_from(self, rung: int, candidates: range) -> RungHistory:
        """Return what is known of a rung by those of whom some climb from it, in the order in which they do.

        Few layers may want other values than all do: to more layers go those who are unlike each other.
        """
        varies = not self.terms.ladder.continues(rung + 1)
        return self.history.rung(rung, part=self.terms.contenders(candidates, rung), varies=varies)

    def _candidates(self) -> range:
        """Return those who begin with few layers: a first wave, and after that what its costs allow."""
        terms = self.terms
        begin, wave = terms.first.stop, terms.first_wave(self.costs)
        here = self.costs.at(0, range(begin, begin + wave))
        number = wave
        if wave > 0 and here.num_ended == wave:
            number = max(wave, self._affordable(range(begin, begin + wave), here))
        return range(begin, max(begin + number, len(self.history.configurations)))

    def _affordable(self, wave: range, here: RungHistory) -> int:
        """Return how many candidates the budget pays for, by what the first ``wave`` of them took.

        Those that climb may take longer than most, and each rung takes as long to begin and to validate as the lowest of
        all layers does, where the early ones have been.
        """
        costs = self.costs
        full_training = costs.full_training_by(1, by=self.early, alike=self.scouts)
        left = costs.budget(full_training) - costs.first
        # Where the clock stood still nobody is dearer.
        dearness = here.dearness(self.terms.climb.counts(len(here.ranking), 0)[1]) or 1.0
        prices = costs.prices(wave, known=1, full_training=full_training, dearness={0: dearness})
        beginning = dearness * costs.beyond(prices[1] / dearness, early=self.early, among=self.scouts)
        prices = [prices[0], *(price + beginning for price in prices[1:])]
        if not self._told_nothing(here):
            return self.terms.climb.affordable(left, prices, 0)
        # More of them than can go on with more layers would be trained for nothing.
        return self.terms.climb.affordable(left - here.seconds, prices, self._next_rung(0, here))

    def _with_late(self, scouts: DecidedClimb) -> DecidedClimb:
        """Return what is decided when all but the ``scouts`` begin with all layers."""
        late = self._late()
        few = self.climbing_from(0, self.scouts)
        decided = scouts.climbing(1, len(self.early), few, others=len(late))
        return self._climbed(replace(decided, late=late), rung=1)

    def _late(self) -> range:
        """Return those who begin with all layers, since few save no time: as many as is left pays for."""
        costs, terms, begin = self.costs, self.terms, self.scouts.stop
        full_training = costs.full_training_by(1, by=self.early, alike=self.scouts)
        prices = costs.prices(self.scouts, known=1, full_training=full_training)
        mean = costs.mean_of(self.early, 1) or prices[1]
        prices = [price * mean / prices[1] for price in prices]
        left = costs.budget(full_training) - costs.first - costs.at(0, self.scouts).seconds
        number = terms.climb.affordable(left, prices, 1) - len(self.early)
        if terms.most is not None:
            number = min(number, terms.most - begin)
        return range(begin, max(begin, begin + number, len(self.history.configurations)))

    def _climbed(self, decided: DecidedClimb, *, rung: int) -> DecidedClimb:
        """Return ``decided`` with what is decided from ``rung`` on."""
        terms, costs = self.terms, self.costs
        everyone, dearness = decided.everyone, dict[int, float]()
        while rung < len(terms.kept):
            here = self.climbing_from(rung, everyone)
            if here.num_ended < decided.expected(rung) + terms.num_first_at(rung) or here.num_pending > 0:
                break
            full_training = costs.full_training_by(rung + 1, by=self.early, alike=self.scouts)
            funds = _Funds(
                costs.budget(full_training),
                self._spent(everyone, rung),
                costs.prices(everyone, known=rung + 1, full_training=full_training, dearness=dearness),
            )
            higher, tellers = self._next_rung(rung, here), list[int]()
            near = self._within_reach(funds, higher, here)
            quota = self._quota(funds, higher, near)
            if higher == terms.ladder.lowest_whole:
                # What candidates take with all layers is a guess until some have: a third of them tell it.
                tellers = near.contenders[: (quota + 2) // 3]
                corrected = self._corrected(funds, higher, near, tellers)
                if corrected is None:
                    return decided.waiting(higher, len(tellers), near)
                near = self._within_reach(corrected, higher, here)
                quota = self._quota(self._without_lost(corrected, higher, near, tellers), higher, near)
            # Those that went early, or climbed within a smaller budget, take places of others. Nobody comes back.
            least = len({*tellers}.intersection(near.contenders))
            quota = max(quota, least)
            number, others = near.within(quota, least=least)
            dearness[rung] = near.dearness(number)
            decided = decided.climbing(higher, number, near, others=others)
            rung = higher
        return decided

    def _spent(self, everyone: range, rung: int) -> float:
        """Return the seconds that were spent up to a rung."""
        spent = sum(
            self.costs.at(below, self.terms.contenders(everyone, below)).seconds for below in range(rung + 1)
        )
        return spent + (self.costs.first if rung < self.terms.first_rung else 0.0)

    def _corrected(self, funds: _Funds, higher: int, here: RungHistory, tellers: Sequence[int]) -> _Funds | None:
        """Return ``funds`` by what the first to climb, the ``tellers``, took at ``higher``; None before they have ended."""
        mean = self.costs.mean_of(tellers, higher)
        if mean is None:
            return None
        off = mean / (funds.prices[higher] * here.dearness(len(tellers))) if mean > 0 else 1.0
        # They tell what a full training takes, too.
        budget = self.costs.budget(self.costs.full_training_by(higher, by=[*self.early, *tellers]))
        return _Funds(budget, funds.spent, [price * off for price in funds.prices])

    def _without_lost(self, funds: _Funds, rung: int, near: RungHistory, begun: Sequence[int]) -> _Funds:
        """Return ``funds`` less what those took at ``rung`` of the ``begun``, and of the early ones, who climb no more."""
        lost = {*begun, *self.early}.difference(near.contenders)
        found = [self.history.evaluation(number, rung) for number in sorted(lost)]
        spent = sum(evaluation.cost.seconds for evaluation in found if evaluation is not None)
        return replace(funds, spent=funds.spent + spent)

    def _within_reach(self, funds: _Funds, rung: int, climbing: RungHistory) -> RungHistory:
        """Return those of whom some climb to ``rung`` without whoever could not be trained in full for all that is left.

        Who took longer than others takes longer above. Where nobody is within reach all are returned, as they are where
        there is none of one's own: somebody has to be trained in full.
        """
        if self.terms.num_own == 0:
            return climbing
        most = (funds.left + _EXCESS * funds.budget) / sum(funds.prices[rung:])
        near = climbing.passing_over(most * climbing.seconds / max(1, climbing.num_ended))
        return near if near.ranking else climbing

    def _quota(self, funds: _Funds, rung: int, climbing: RungHistory) -> int:
        """Return how many climb to ``rung`` if that and what is planned above it is to cost at most what is left.

        One climbs for a little more than that, and for whatever it takes if there would be no answer without.
        """
        terms = self.terms
        affordable = terms.climb.affordable(funds.left, funds.prices, rung, climbing=climbing)
        more = funds.left + _EXCESS * funds.budget
        if affordable == 0 and (
            terms.num_own == 0 or terms.climb.affordable(more, funds.prices, rung, climbing=climbing) > 0
        ):
            affordable = 1
        return min(affordable, len(climbing.ranking))

    def _told_nothing(self, here: RungHistory) -> bool:
        """Return whether a rung told nothing, measured by what is known of all layers when the first of it are decided."""
        reference = self.costs.reference(self.early, self.terms.ladder.lowest_whole)
        return reference is not None and tells_nothing(here, reference=reference)

    def _next_rung(self, rung: int, here: RungHistory) -> int:
        """Return where whoever climbs from a closed rung goes: to the next, or to more layers if it has told nothing."""
        if not self._told_nothing(here):
            return rung + 1
        rungs = self.terms.ladder.rungs
        layers = rungs[rung].trainable_layers
        more = (higher for higher in range(rung + 1, len(rungs)) if rungs[higher].trainable_layers > layers)
        return next(more, rung + 1)
