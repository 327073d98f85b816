"""What is known of one rung, and in which order its configurations climb."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from copy import copy
from itertools import accumulate
from typing import TYPE_CHECKING

from frostline.search.fronts import climbing_order, num_dominating
from frostline.search.sorted_lists import Key, discard, holds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from frostline.records import Cost, Value


class RungHistory:
    """One rung, for all configurations or for a part of them. Read it; ``History`` writes it.

    They climb by score, or where evaluations tell what their models cost by both (``search.fronts``); of a rung that
    ``varies`` no two alike before others (``search.variety``), once it is closed.
    """

    def __init__(self, *, varies: bool = False) -> None:
        self.ranking: list[int] = []
        """The finished configurations, best score first, ties by number; what diverged or failed is not in it."""
        self.num_started = 0
        """How many are pending or ended, however they ended."""
        self.num_ended = 0
        self._keys: list[Key] = []
        """Of the ranking: the score with its sign turned so that less is better, and the number."""
        self._key_of: dict[int, Key] = {}
        """The same, or where they climb in another order the place in that, and the number."""
        self._points: dict[int, tuple[float, float]] = {}
        """Losses and what the models cost."""
        self._costs_count = False
        """Whether any evaluation told that."""
        self._varies = varies
        self._values: dict[int, Mapping[str, Value]] = {}
        """The hyperparameters of those that finished, if it varies."""
        self._order: list[int] | None = None
        """By these; None: it has to be made anew."""
        # The contenders are those of the ranking that were promoted or still can be: all but the eliminated.
        self._contenders: list[Key] = []
        self._unpromoted: list[Key] = []
        self._unpromotable: list[int] = []
        self._seconds_of: dict[int, float] = {}
        self._seconds: float | None = 0.0
        self._fixed_seconds: list[float] = []
        """Of those who know how many of their seconds lie around the steps."""
        self._seconds_of_best: list[float] | None = None
        self._seconds_each: float | None = None
        self.num_passed = 0
        """How many of those who have begun higher are passed over."""

    @property
    def seconds(self) -> float:
        """What the evaluations that ended took, summed by number: a closed rung's is summed once."""
        if self._seconds is None:
            self._seconds = sum(self._seconds_of[number] for number in sorted(self._seconds_of))
        return self._seconds

    @property
    def fixed_seconds(self) -> float:
        """Which of the ``seconds`` more samples would not have added to, as far as that is known, in whichever order."""
        return math.fsum(self._fixed_seconds)

    def dearness(self, count: int) -> float:
        """Return what the first ``count`` to climb took each, in units of what all did that finished; 1 if nobody knows."""
        seconds, count = self._seconds_of_the_first, min(count, len(self.ranking))
        each = self._mean_seconds
        return (seconds[count] / count) / each if count and each > 0.0 else 1.0

    @property
    def _mean_seconds(self) -> float:
        """What all that finished took each, those included that are passed over."""
        if self._seconds_each is not None:
            return self._seconds_each
        return self._seconds_of_the_first[-1] / len(self.ranking) if self.ranking else 0.0

    @property
    def _seconds_of_the_first(self) -> list[float]:
        """What the first 0, 1, ... to climb took."""
        if self._seconds_of_best is None:
            self._seconds_of_best = [*accumulate((self._seconds_of[number] for number in self.order), initial=0.0)]
        return self._seconds_of_best

    def passing_over(self, dearest: float) -> RungHistory:
        """Return the same without those who took longer than ``dearest`` seconds: they climb no more."""
        dear = {number for number in self.ranking if self._seconds_of[number] > dearest}
        if not dear:
            return self
        self._settle()
        others = copy(self)
        others.ranking = [number for number in self.ranking if number not in dear]
        others._order = None if self._order is None else [number for number in self._order if number not in dear]
        others._contenders = [key for key in self._contenders if key[1] not in dear]
        others._unpromoted = [key for key in self._unpromoted if key[1] not in dear]
        unpromoted = {number for _, number in self._unpromoted}
        others._unpromotable = sorted({*self._unpromotable, *(dear & unpromoted)})
        others._seconds_of_best, others._seconds_each = None, self._mean_seconds
        others.num_passed = sum(number in dear - unpromoted for _, number in self._contenders)
        return others

    @property
    def losses(self) -> list[float]:
        """What the ranking is by: the scores with their sign turned so that less is better, best first."""
        return [loss for loss, _ in self._keys]

    @property
    def num_pending(self) -> int:
        """How many are under way."""
        return self.num_started - self.num_ended

    @property
    def order(self) -> list[int]:
        """The finished configurations in the order in which they climb: the ranking, unless more than scores counts."""
        self._settle()
        return self.ranking if self._order is None else self._order

    @property
    def contenders(self) -> list[int]:
        """Those of the order who have begun at a higher rung, or still can."""
        self._settle()
        return [number for _, number in self._contenders]

    def within(self, quota: int, *, least: int = 0) -> tuple[int, int]:
        """Return how many of the first contenders climb, at least ``least``, and how many others have climbed before.

        Together they are a ``quota``, or fewer if there are no more; more if so many have climbed. Those who are passed over
        take nobody's place.
        """
        contenders = self.contenders
        unpromoted = {number for _, number in self._unpromoted}
        number = min(quota, len(contenders))
        others = sum(each not in unpromoted for each in contenders[number:])
        while number > least and number + others > quota:
            number -= 1
            others += contenders[number] not in unpromoted
        return number, others + self.num_passed

    def promotable(self, *, limit: int, most: int) -> list[int]:
        """Return, in order, up to ``most`` of the first ``limit`` to climb that are not yet started at a higher rung."""
        number = self.num_promotable(limit=limit)
        return [number for _, number in self._unpromoted[: min(most, number)]]

    def num_promotable(self, *, limit: int) -> int:
        """Return how many of the first ``limit`` to climb are not yet started at a higher rung."""
        self._settle()
        if limit >= len(self._contenders):
            return len(self._unpromoted)
        return bisect_left(self._unpromoted, self._contenders[limit])

    def num_hopeful(self, *, limit: int) -> int:
        """Return how many that are not yet started higher may be of the first ``limit``, whatever else ends here."""
        return len(self._hopeful(limit)) if self._is_reordered else self.num_promotable(limit=limit)

    def beaten(self, *, limit: int, is_closed: bool = False) -> list[int]:
        """Return whom it eliminates that only the first ``limit`` climb: the worse, the diverged and the failed.

        Unless the rung ``is_closed``, they are those who will not climb whatever else ends here.
        """
        if self._is_reordered and not is_closed:
            hopeful = self._hopeful(limit)
            return [number for _, number in self._unpromoted if number not in hopeful] + self._unpromotable
        # Places in a ranking only ever get worse.
        staying = self.num_promotable(limit=limit)
        return [number for _, number in self._unpromoted[staying:]] + self._unpromotable

    @property
    def _is_reordered(self) -> bool:
        """Whether they climb in another order than that of their scores."""
        return self._costs_count or self._varies

    def _settle(self) -> None:
        """Put into order who has ended since it was made, where more than scores counts."""
        if not self._is_reordered or self._order is not None:
            return
        self._order = climbing_order(self._points) if self._costs_count else self.ranking
        if self._varies:
            # It needs numpy, which most commands do without.
            from frostline.search.variety import varied_order

            self._order = varied_order(self._order, self._values)
        self._key_of = {number: (place, number) for place, number in enumerate(self._order)}
        self._contenders = sorted(self._key_of[number] for _, number in self._contenders)
        self._unpromoted = sorted(self._key_of[number] for _, number in self._unpromoted)

    def _hopeful(self, limit: int) -> set[int]:
        if self._varies:
            # Anybody's place may get better, if the only ones alike get worse.
            return {number for _, number in self._unpromoted}
        # Places by fronts may get better, but whom so many dominate has as many before it.
        dominating = num_dominating({number: self._points[number] for _, number in self._contenders})
        return {number for _, number in self._unpromoted if dominating[number] < limit}

    def finish(
        self,
        number: int,
        key: Key | None,
        *,
        cost: Cost,
        model_cost: float | None,
        values: Mapping[str, Value],
    ) -> None:
        """Let a configuration of these hyperparameters have ended; None for ``key`` unless it finished."""
        self.num_ended += 1
        self._seconds_of[number], self._seconds, self._seconds_of_best = cost.seconds, None, None
        if cost.fixed_seconds > 0:
            self._fixed_seconds.append(cost.fixed_seconds)
        if key is None:
            insort(self._unpromotable, number)
            return
        position = bisect_left(self._keys, key)
        self._keys.insert(position, key)
        self.ranking.insert(position, number)
        self._costs_count |= model_cost is not None
        self._points[number], self._order = (key[0], math.inf if model_cost is None else model_cost), None
        self._key_of[number] = key
        if self._varies:
            self._values[number] = values
        insort(self._contenders, key)
        insort(self._unpromoted, key)

    def promote(self, number: int) -> None:
        """Let a configuration have begun at a higher rung."""
        if (key := self._key_of.get(number)) is not None:
            discard(self._unpromoted, key)
            if not holds(self._contenders, key):
                insort(self._contenders, key)

    def eliminate(self, number: int) -> None:
        """Let a configuration get no further."""
        discard(self._unpromotable, number)
        key = self._key_of.get(number)
        if key is not None and discard(self._unpromoted, key):
            discard(self._contenders, key)
