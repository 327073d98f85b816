"""Successive halving that is sized by a budget and by what its evaluations turn out to cost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from frostline.errors import LadderError
from frostline.records import Request
from frostline.search.algorithms.halving import first_requests
from frostline.search.algorithms.silence import tells_nothing
from frostline.search.budgets.budget import FEWEST_FULL_TRAININGS, Budget
from frostline.search.budgets.decided_climb import DecidedClimb, Scouts, with_early
from frostline.search.budgets.planned_climb import PlannedClimb, usual_shares
from frostline.search.budgets.rung_prices import Costs, guessed_prices
from frostline.search.budgets.savings import LEAST_SAVED
from frostline.search.ladder import Ladder, LadderRow, rows_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.search.history import History
    from frostline.search.rung_history import RungHistory

# Half of the candidates that the guess allows begin before anything is known of the cost of few layers, but no more than
# tell that well.
_FIRST_WAVE = 0.5
_LARGEST_FIRST_WAVE = 16

# So many of them begin first, and so many of these train all layers next: they tell whether few layers save enough time.
# If not, the others begin with all layers (docs/decisions/0039-few-layers-once.md).
_SCOUTS, _EARLY = 6, 2
_NO_SCOUTS = Scouts()

# By how much of the budget the last full training may exceed it.
_TOLERANCE = 0.03

# By how much of the budget a training may exceed it that would otherwise be the only one of a candidate.
_EXCESS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetedHalving:
    """Synchronous successive halving within a budget: wide at the bottom, and as many at every rung as it still allows.

    The first ``num_own`` configurations are one's own: each is trained in full, and first, whatever the rungs would say of
    it, so that the answer is never worse. They also tell what a full training takes. If there are none, the first that is
    drawn tells it, at the lowest rung of all layers, where it competes with those that climb so far. Of the others, the
    candidates, some begin at the lowest rung; when these have ended their mean cost says how many more do. When a rung has
    closed, as many of its best climb as the rest of the budget pays for, each with the climb that is planned for it: of the
    candidates at a rung the share ``kept`` of that rung goes on. To more layers climb those that are good and unlike each
    other, since few layers may want other values than all (docs/decisions/0046-unlike-each-other.md).
    Where a rung of few layers tells nothing (``silence``), nobody climbs to another of as few: the search goes on
    with more layers, for as many as that leaves.
    Who took longer than others is reckoned to take longer above; where all layers are trained for the first time, a third of
    those who climb tell what that takes, and so how many more do.
    What is decided at a rung rests on the seconds of evaluations that have all ended, so that resuming is replaying. With a
    larger budget later the rungs open again. Below ``FEWEST_FULL_TRAININGS`` only the first are trained.
    Raises: LadderError if there is not one share above 0 and up to 1 for each rung but the last, or num_own is below 0.
    """

    ladder: Ladder
    kept: tuple[float, ...]
    budget: Budget
    num_own: int = 1
    most: int | None = None
    """How many configurations there are to try at most, one's own included; None: as many as the budget pays for."""

    def __post_init__(self) -> None:
        if len(self.kept) != len(self.ladder.rungs) - 1 or not all(0 < share <= 1 for share in self.kept):
            raise LadderError(
                f"kept is {self.kept}, but must be a share above 0 and up to 1 for each of the {len(self.ladder.rungs)} "
                f"rungs but the last."
            )
        if self.num_own < 0:
            raise LadderError(f"num_own is {self.num_own}, but it is a number of configurations: give 0 or more.")

    @classmethod
    def usual(
        cls, ladder: Ladder, budget: Budget, *, num_initial: int = 0, most: int | None = None
    ) -> BudgetedHalving:
        """Return the search on ``ladder`` whose own configurations are the initial ones."""
        kept = usual_shares(ladder)
        return cls(ladder=ladder, kept=kept, budget=budget, num_own=num_initial, most=most)

    @property
    def fingerprint(self) -> str:
        """A string that changes when a study made with this search cannot be continued with another."""
        return f"budgeted halving, kept {', '.join(f'{share:g}' for share in self.kept)}, own {self.num_own}"

    @property
    def configurations(self) -> int:
        """How many configurations are planned, before any cost is known."""
        return sum(self.started_per_rung())

    @property
    def first(self) -> range:
        """The numbers of those that tell what a full training takes: one's own, or else the first that is drawn."""
        return range(max(1, self.num_own))

    @property
    def first_rung(self) -> int:
        """Where these begin: the top, or with none of one's own the lowest rung of all layers."""
        return len(self.ladder.rungs) - 1 if self.num_own else self._lowest_whole

    def evaluations_per_rung(self) -> tuple[int, ...]:
        """Return how many evaluations each rung is planned to see, before any cost is known."""
        climbing, prices = self._guessed(None), guessed_prices(self.ladder)
        left = (self.budget.full_trainings or 0.0) * (1 + _TOLERANCE) - self._first_cost
        counts: list[int] = []
        for rung, price in enumerate(prices):
            if rung > 0:
                climbing = min(max(1, self._climb.affordable(left, prices, rung)), counts[-1])
            left -= climbing * price
            counts.append(climbing + self._num_first_at(rung))
        return tuple(counts)

    def rows(self) -> tuple[LadderRow, ...]:
        """Return what is planned for each rung and what it is guessed to cost, the frozen layers shared."""
        counts, prices = self.evaluations_per_rung(), guessed_prices(self.ladder)
        costs = [count * price for count, price in zip(counts, prices, strict=True)]
        costs[self.first_rung] += self._first_cost - len(self.first) * prices[self.first_rung]
        return rows_of(self.ladder.rungs, counts, costs)

    @property
    def _lowest_whole(self) -> int:
        """The lowest rung of all layers."""
        whole = self.ladder.num_layers
        return next(rung for rung, fidelity in enumerate(self.ladder.rungs) if fidelity.trainable_layers == whole)

    @property
    def _first_cost(self) -> float:
        """What the first take where they begin, in full trainings."""
        return len(self.first) * self.ladder.rungs[self.first_rung].samples / self.ladder.full_samples

    @property
    def searches(self) -> bool:
        """Whether the budget is known to be large enough to search; of a time that turns out on the way."""
        return self.budget.seconds is not None or self._guessed(None) > 0

    def spent(self, history: History) -> tuple[float, float]:
        """Return the seconds that evaluations took, and those of the budget; the first have ended."""
        seconds = sum(evaluation.cost.seconds for evaluation in history.evaluations())
        costs = self._costs(history)
        return seconds, costs.budget(costs.full_training_by(len(self.ladder.rungs)))

    def full_trainings(self, history: History) -> float:
        """Return the budget in full trainings, as the first of them told what one takes; the first have ended."""
        costs = self._costs(history)
        return costs.budget(costs.full_training) / costs.full_training

    def own_stay_alone(self, history: History) -> bool:
        """Return whether nobody is trained in full beside one's own, since what is left does not pay for it."""
        top = len(self.ladder.rungs) - 1
        return self.num_own > 0 and history.rung(0).num_ended > 0 and history.rung(top).num_started == self.num_own

    def decided(self, history: History) -> tuple[int, ...]:
        """Return how many evaluations the lowest rungs see, those for which that is decided."""
        if not self._first_have_ended(history):
            return ()
        plan = self._plan(history)
        return tuple(plan.expected(rung) + self._num_first_at(rung) for rung in range(max(plan.quotas) + 1))

    def started_per_rung(self) -> tuple[int, ...]:
        """Return how many configurations begin their climb at each rung."""
        begun = (self._guessed(None), *(0 for _ in self.kept))
        return tuple(count + self._num_first_at(rung) for rung, count in enumerate(begun))

    def next_requests(self, history: History, *, capacity: int) -> list[Request]:
        """See ``Search``."""
        first = self.first
        if not self._first_have_ended(history):
            requests = first_requests(history, first, rung=self.first_rung, capacity=capacity)
            # Whoever else has room begins with candidates, of which so many begin in any case.
            wave = self._scouts(None) or range(first.stop, first.stop + self._first_wave(None))
            return requests + first_requests(history, wave, rung=0, capacity=capacity - len(requests))
        plan = self._plan(history)
        requests = first_requests(history, plan.candidates, rung=0, capacity=capacity)
        requests += first_requests(history, plan.late, rung=1, capacity=capacity - len(requests))
        quotas = plan.quotas | plan.wave
        for rung, higher in pairwise(quotas):
            if requests:
                break
            contenders = self._climbing_from(rung, plan.everyone, history)
            climbing = contenders.promotable(limit=quotas[higher], most=capacity)
            requests = [Request(number, higher) for number in climbing]
        return requests

    def eliminated(self, history: History) -> list[int]:
        """See ``Climb``: those of a closed rung that its quota leaves behind."""
        if not self._first_have_ended(history):
            return []
        plan, found = self._plan(history), []
        for rung, higher in pairwise(plan.quotas):
            contenders = self._climbing_from(rung, plan.everyone, history)
            found += contenders.beaten(limit=plan.quotas[higher], is_closed=True)
        return sorted(found)

    @property
    def _climb(self) -> PlannedClimb:
        return PlannedClimb(self.kept, None if self.most is None else self.most - len(self.first))

    def _costs(self, history: History) -> Costs:
        return Costs(history, ladder=self.ladder, budget=self.budget, first=self.first, first_rung=self.first_rung)

    def _first_have_ended(self, history: History) -> bool:
        return history.rung(self.first_rung, part=self.first).num_ended == len(self.first)

    def _num_first_at(self, rung: int) -> int:
        """Return how many of the first begin at ``rung``."""
        return len(self.first) if rung == self.first_rung else 0

    def _contenders(self, candidates: range, rung: int) -> range:
        """Return those of whom some climb from ``rung``: with none of one's own, from its first rung on the first too."""
        return range(0 if rung >= self.first_rung else candidates.start, candidates.stop)

    def _climbing_from(self, rung: int, candidates: range, history: History) -> RungHistory:
        """Return what is known of a rung by those of whom some climb from it, in the order in which they do.

        Few layers may want other values than all do: to more layers go those who are unlike each other.
        """
        varies = not self.ladder.continues(rung + 1)
        return history.rung(rung, part=self._contenders(candidates, rung), varies=varies)

    def _plan(self, history: History) -> DecidedClimb:
        """Return what is decided. The first have ended."""
        costs = self._costs(history)
        numbers = self._scouts(costs)
        plan = DecidedClimb(numbers, range(numbers.stop, numbers.stop), {0: len(numbers)})
        few = self._climbing_from(0, numbers, history)
        scouts = Scouts(numbers, few.order[:_EARLY])
        if few.num_ended < len(numbers):
            return plan
        saved = costs.share_saved(scouts.early, 0, self._lowest_whole)
        if saved is None:
            return replace(plan, wave={1: len(scouts.early)})
        if saved < LEAST_SAVED:
            late = self._late(costs, scouts)
            quotas = {0: len(numbers), 1: len(scouts.early)}
            return self._climbed(costs, replace(plan, late=late, quotas=quotas, besides={1: len(late)}), rung=1)
        begun = self._begun(costs, self._first_wave(costs), scouts)
        candidates = range(self.first.stop, max(self.first.stop + begun, len(history.configurations)))
        none_late = range(candidates.stop, candidates.stop)
        decided = DecidedClimb(candidates, none_late, {0: len(candidates)})
        return self._climbed(costs, decided, rung=0, scouts=scouts)

    def _climbed(
        self, costs: Costs, plan: DecidedClimb, *, rung: int, scouts: Scouts = _NO_SCOUTS
    ) -> DecidedClimb:
        """Return ``plan`` with what is decided from ``rung`` on."""
        everyone, dearness = plan.everyone, dict[int, float]()
        while rung < len(self.kept):
            here = self._climbing_from(rung, everyone, costs.history)
            expected = plan.expected(rung) + self._num_first_at(rung)
            if here.num_ended < expected or here.num_pending > 0:
                break
            spent = sum(costs.at(below, self._contenders(everyone, below)).seconds for below in range(rung + 1))
            spent += costs.first if rung < self.first_rung else 0.0
            full_training = costs.full_training_by(rung + 1, by=scouts.early, alike=scouts.numbers)
            prices = costs.prices(everyone, known=rung + 1, full_training=full_training, dearness=dearness)
            higher = self._next_rung(rung, here, costs, scouts)
            budget = costs.budget(full_training)
            left = budget * (1 + _TOLERANCE) - spent
            quota = self._quota(budget, left, prices, rung=higher, climbing=here)
            others = 0
            if higher == self._lowest_whole:
                # What candidates take with all layers is a guess until some have: a third of them tell it.
                wave = (quota + 2) // 3
                tellers = here.order[:wave]
                mean = costs.mean_of(tellers, higher)
                if mean is None:
                    return replace(plan, wave={higher: wave})
                off = mean / (prices[higher] * here.dearness(wave)) if mean > 0 else 1.0
                # They tell what a full training takes, too.
                budget = costs.budget(costs.full_training_by(higher, by=[*scouts.early, *tellers]))
                left = budget * (1 + _TOLERANCE) - spent
                prices = [price * off for price in prices]
                quota = max(wave, self._quota(budget, left, prices, rung=higher, climbing=here))
                # Those that went early take places of others.
                quota, others = with_early(quota, here.order, scouts.early, least=wave)
            plan = plan.climbing(higher, quota, others=others)
            dearness[rung] = here.dearness(quota)
            rung = higher
        return plan

    def _scouts(self, costs: Costs | None) -> range:
        """Return those of the first candidates that tell whether few layers save time, if the next rung trains all."""
        number = min(_SCOUTS, self._first_wave(costs)) if self._lowest_whole == 1 else 0
        return range(self.first.stop, self.first.stop + number)

    def _late(self, costs: Costs, scouts: Scouts) -> range:
        """Return those who begin with all layers, since few save no time: as many as is left pays for."""
        begin = scouts.numbers.stop
        full_training = costs.full_training_by(1, by=scouts.early, alike=scouts.numbers)
        prices = costs.prices(scouts.numbers, known=1, full_training=full_training)
        mean = costs.mean_of(scouts.early, 1) or prices[1]
        prices = [price * mean / prices[1] for price in prices]
        left = costs.budget(full_training) - costs.first - costs.at(0, scouts.numbers).seconds
        number = self._climb.affordable(left, prices, 1) - len(scouts.early)
        if self.most is not None:
            number = min(number, self.most - begin)
        return range(begin, max(begin, begin + number, len(costs.history.configurations)))

    def _quota(
        self, budget: float, left: float, prices: Sequence[float], *, rung: int, climbing: RungHistory
    ) -> int:
        """Return how many climb to ``rung`` if that and what is planned above it is to cost at most ``left``.

        One climbs for a little more than is left, and for whatever it takes if there would be no answer without.
        """
        affordable = self._climb.affordable(left, prices, rung, climbing=climbing)
        more = left + _EXCESS * budget
        if affordable == 0 and (
            self.num_own == 0 or self._climb.affordable(more, prices, rung, climbing=climbing) > 0
        ):
            affordable = 1
        return min(affordable, len(climbing.ranking))

    def _told_nothing(self, here: RungHistory, costs: Costs, scouts: Scouts) -> bool:
        """Return whether a rung told nothing, measured by what is known of all layers when the first of it are decided."""
        reference = costs.reference(scouts.early, self._lowest_whole)
        return reference is not None and tells_nothing(here, reference=reference)

    def _next_rung(self, rung: int, here: RungHistory, costs: Costs, scouts: Scouts) -> int:
        """Return where whoever climbs from a closed rung goes: to the next, or to more layers if it has told nothing."""
        if not self._told_nothing(here, costs, scouts):
            return rung + 1
        rungs, layers = self.ladder.rungs, self.ladder.rungs[rung].trainable_layers
        more = (higher for higher in range(rung + 1, len(rungs)) if rungs[higher].trainable_layers > layers)
        return next(more, rung + 1)

    def _begun(self, costs: Costs, wave: int, scouts: Scouts) -> int:
        """Return how many candidates are to begin: a first wave, and after that what its costs allow."""
        numbers = range(self.first.stop, self.first.stop + wave)
        here = costs.at(0, numbers)
        if wave == 0 or here.num_ended < wave:
            return wave
        full_training = costs.full_training_by(1, by=scouts.early, alike=scouts.numbers)
        left = costs.budget(full_training) - costs.first
        prices = costs.prices(numbers, known=1, full_training=full_training)
        if not self._told_nothing(here, costs, scouts):
            return max(wave, self._climb.affordable(left, prices, 0))
        # More of them than can go on with more layers would be trained for nothing.
        higher = self._next_rung(0, here, costs, scouts)
        return max(wave, self._climb.affordable(left - here.seconds, prices, higher))

    def _first_wave(self, costs: Costs | None) -> int:
        """Return how many candidates begin before any has told what few layers cost."""
        guessed = self._guessed(costs)
        return min(_LARGEST_FIRST_WAVE, max(min(1, guessed), round(_FIRST_WAVE * guessed)))

    def _guessed(self, costs: Costs | None) -> int:
        """Return how many candidates the budget allows if rungs cost what is guessed of them; 0: too few to search."""
        full_trainings = self.budget.full_trainings
        if full_trainings is None:
            full_trainings = 0.0 if costs is None else costs.budget(costs.full_training) / costs.full_training
        if full_trainings < FEWEST_FULL_TRAININGS:
            return 0
        return self._climb.affordable(full_trainings - self._first_cost, guessed_prices(self.ladder), 0)
