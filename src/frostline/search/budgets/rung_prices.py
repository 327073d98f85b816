"""What the rungs of a ladder cost: guessed from layers and samples, and measured while a search within a budget runs."""

from __future__ import annotations

from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

from frostline.records import Status
from frostline.search.algorithms.silence import reference_loss
from frostline.search.budgets.savings import pace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from frostline.records import Cost, Evaluation
    from frostline.search.budgets.budget import Budget
    from frostline.search.history import History
    from frostline.search.ladder import Ladder
    from frostline.search.rung_history import RungHistory

# How many configurations share a pass through the frozen layers, for a first guess of what rungs cost. What is measured
# replaces the guess.
_TOGETHER = 16

# Means of fewer costs say little.
_FEWEST_COSTS = 3

# Of a full training: what ended before, having diverged, does not tell what it takes.
_LEAST_TOLD = 0.1

# Of a full training: whatever a clock says, nothing is free.
_LEAST_SHARE = 1e-6


def guessed_prices(ladder: Ladder) -> list[float]:
    """Return what climbing to each rung from the one below is guessed to cost, in full trainings.

    Of a share u of the layers trained, forward and backward count 3u of 3; the frozen layers' forward is shared by several.
    Where as many layers are trained as at the rung below, training goes on.
    """
    whole = [0.0]
    for fidelity in ladder.rungs:
        share = fidelity.trainable_layers / ladder.num_layers
        whole.append(((1 - share) / _TOGETHER + 3 * share) / 3 * fidelity.samples / ladder.full_samples)
    return [here - below if ladder.continues(rung) else here for rung, (below, here) in enumerate(pairwise(whole))]


class Costs:
    """What a search has cost so far. The first have ended. Units: seconds.

    What lies around the steps of a training, as far as an evaluation tells it (``records.Cost.fixed_seconds``), comes once
    in each, on however many samples. If none of the first came to its end, the ``next_ones`` tell what a full training
    takes.
    """

    def __init__(
        self,
        history: History,
        *,
        ladder: Ladder,
        budget: Budget,
        first: range,
        first_rung: int,
        next_ones: range = range(0),
    ) -> None:
        self.history = history
        self._ladder = ladder
        self._next_ones = next_ones
        self._budget = budget
        self._first, self._first_rung = first, first_rung
        found = [history.evaluation(number, first_rung) for number in first]
        ended = [evaluation for evaluation in found if evaluation is not None]
        self.first = sum(evaluation.cost.seconds for evaluation in ended)
        self.full_training = self._full_training(ended)
        self._fixed = sum(evaluation.cost.fixed_seconds for evaluation in ended) / max(1, len(ended))

    def budget(self, full_training: float) -> float:
        """Return the budget where a full training takes so long."""
        return self._budget.in_seconds(full_training)

    def within_budget(self, rung: int, *, share: float) -> int:
        """Return how many trainings from the start of ``rung`` a ``share`` of the budget pays for, by the first alone."""
        whole = self.full_training
        price = self.prices(range(0), known=0, full_training=whole)[rung]
        return int(share * self.budget(whole) / price)

    def full_training_by(self, known: int, *, by: Sequence[int] = (), alike: range | None = None) -> float:
        """Return what a full training takes, as far as the lowest ``known`` rungs tell, and those who went on before.

        Where the first told it from a small share of the samples, all who were trained on as many tell it better: the first
        may be unlike them, and what a process starts once falls to it. And those that have gone on since tell what more
        samples take, of which whatever else lies around the steps is a smaller part. ``by`` are those who went on before
        their rung was closed: they are compared with those ``alike``, by default all, who were trained below in the same
        company.
        """
        begin, rungs = self._first_rung, self._ladder.rungs
        if begin == len(rungs) - 1:
            return self.full_training
        numbers = self.history.rung(begin).ranking if known > begin else [*self._first, *by]
        there = self._wholes(numbers, begin)
        lowest = self.history.rung(0, part=alike if known <= begin else None)
        below = self._wholes(lowest.ranking, 0) if begin > 0 else {}
        typical = _typical(there, below) if there else self.full_training
        share = rungs[begin].samples / self._ladder.full_samples
        for rung in range(known - 1, begin, -1):
            here = self._wholes(self.history.rung(rung).ranking, rung)
            growths = [here[number] / there[number] for number in here.keys() & there.keys()]
            if growths:
                return typical * (share + (1 - share) * median(growths))
        return typical

    def reference(self, early: Sequence[int], rung: int) -> float | None:
        """Return the best loss with all layers of the first, and of those who went to ``rung`` early; None without any."""
        found = (
            reference_loss(self.history, self._first, self._first_rung),
            reference_loss(self.history, early, rung),
        )
        return min((loss for loss in found if loss is not None), default=None)

    def at(self, rung: int, numbers: range) -> RungHistory:
        """Return what is known of ``rung`` by those of ``numbers``."""
        return self.history.rung(rung, part=numbers)

    def mean_of(self, numbers: Sequence[int], rung: int) -> float | None:
        """Return what those of ``numbers`` took each that finished ``rung``, 0 if none; None before all have ended."""
        found = [self.history.evaluation(number, rung) for number in numbers]
        if any(evaluation is None for evaluation in found):
            return None
        seconds = [each.cost.seconds for each in found if each is not None and each.status is Status.FINISHED]
        return sum(seconds) / len(seconds) if seconds else 0.0

    def prices(
        self, candidates: range, *, known: int, full_training: float, dearness: Mapping[int, float] | None = None
    ) -> list[float]:
        """Return what climbing to each rung from the one below costs: measured at the first ``known``, guessed above.

        Guesses are corrected by how wrong they were at the rungs that are known, those for all layers apart from those for
        fewer; while none of all layers is known, a full training that was measured is compared with. ``dearness`` says how
        many times as long as all at a rung those took who have climbed from it: they take as much longer above.
        """
        ladder, dearness, least = self._ladder, dearness or {}, _LEAST_SHARE * full_training
        steps = max(full_training - self._fixed, least)
        # By whether all layers are trained: what lies around the steps, how wrong guesses of these were, and dearness.
        fixed = dict.fromkeys((False, True), self._fixed)
        correction, dear = dict.fromkeys(fixed, 1.0), dict.fromkeys(fixed, 1.0)
        prices = []
        for rung, share in enumerate(guessed_prices(ladder)):
            here, guessed = self.at(rung, candidates), share * steps
            kind = ladder.rungs[rung].trainable_layers == ladder.num_layers
            price = (fixed[kind] + guessed * correction[kind]) * dear[kind]
            if rung < known and here.num_ended >= _FEWEST_COSTS:
                price = max(here.seconds / here.num_ended, least)
                fixed[kind] = min(here.fixed_seconds / here.num_ended, price)
                correction[kind], dear[kind] = (price - fixed[kind]) / guessed, 1.0
            prices.append(price)
            for each in dear:
                dear[each] *= dearness.get(rung, 1.0)
        return prices

    def beyond(self, guessed: float, *, early: Sequence[int], among: range) -> float:
        """Return what the second rung takes beyond the ``guessed``, by those who went there ``early``; 0 without any.

        They may take longer than the others ``among`` whom they began.
        """
        told, lowest = self.mean_of(early, 1), self.at(0, among)
        if not told or not lowest.seconds:
            return 0.0
        pace = (self.mean_of(early, 0) or 0.0) / (lowest.seconds / lowest.num_ended)
        return max(0.0, told / pace - guessed) if pace > 0 else 0.0

    def share_saved(self, numbers: Sequence[int], rung: int, higher: int) -> float | None:
        """Return which share of a sample's seconds at ``higher`` those of ``numbers`` saved at ``rung``.

        None before they have ended there; 1 if there is nothing to tell it by.
        """
        if self.mean_of(numbers, higher) is None:
            return None
        whole = self._pace(numbers, higher)
        return 1 - self._pace(numbers, rung) / whole if whole > 0 else 1.0

    def _wholes(self, numbers: Sequence[int], rung: int) -> dict[int, float]:
        """Return what a full training would take each of ``numbers`` that was trained at ``rung``, as far as that tells."""
        found = (self.history.evaluation(number, rung) for number in numbers)
        told = (each for each in found if each is not None and each.cost.seconds > 0 and self._tells(each))
        return {each.number: self._whole(each.cost) for each in told}

    def _tells(self, evaluation: Evaluation) -> bool:
        """Return whether an evaluation tells what more samples take: it came to its end, or far enough."""
        least = _LEAST_TOLD * self._ladder.full_samples
        return evaluation.cost.samples > 0 and (
            evaluation.status is Status.FINISHED or evaluation.cost.samples >= least
        )

    def _whole(self, cost: Cost) -> float:
        """Return what a full training would take by what one on fewer samples cost, if these were more than 0."""
        steps = (cost.seconds - cost.fixed_seconds) * self._ladder.full_samples / cost.samples
        return cost.fixed_seconds + steps

    def _pace(self, numbers: Sequence[int], rung: int) -> float:
        """Return the seconds that a sample took those of ``numbers`` at ``rung``, 0 if nobody was trained there."""
        found = (self.history.evaluation(number, rung) for number in numbers)
        return pace([evaluation for evaluation in found if evaluation is not None]) or 0.0

    def _full_training(self, first: Sequence[Evaluation]) -> float:
        """Return what a full training takes, by the first; if they ended too early to tell, by the candidates after them."""
        seconds = [self._whole(each.cost) for each in first if self._tells(each)]
        told = sum(seconds) / len(seconds) if seconds else self._told_by_next_ones()
        # If the clock stood still or nothing was trained, any positive number keeps the proportions.
        return 1.0 if told is None else max(told, 1e-9)

    def _told_by_next_ones(self) -> float | None:
        """Return what a full training takes by the next candidates, with all layers as soon as one has trained these."""
        for rung in (self._ladder.lowest_whole, 0):
            if told := self._wholes(self._next_ones, rung):
                share_of_steps = self._ladder.rungs[rung].samples / self._ladder.full_samples
                return median(told.values()) * share_of_steps / guessed_prices(self._ladder)[rung]
        return None


def _typical(there: dict[int, float], below: dict[int, float]) -> float:
    """Return what a full training takes a typical configuration, by what a rung tells of those who were trained ``there``.

    These are few, and others than most: the best of the rung below may take longer than the rest, or less. How much longer
    they took than ``below`` tells what all would take that were trained below.
    """
    growths = [whole / below[number] for number, whole in there.items() if number in below]
    return median(below.values()) * median(growths) if growths else median(there.values())
