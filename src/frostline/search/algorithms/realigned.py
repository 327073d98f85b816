"""A search that learns, while it runs, where its lower rungs want other values than full training does.

With few trained layers the best learning rate lies elsewhere, so that such a rung promotes the wrong ones. Which ones it
would have promoted had it trained at another rate can be told without training them again: by a surrogate of its scores. By
how much the rate has to be moved is told by the configurations that have been trained at the next rung too, if these are not
all alike.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from frostline.records import Evaluation, Request, Status, loss_sign
from frostline.search.history import History
from frostline.search.proposals.surrogate import Coordinates, Response, ranking_shifts
from frostline.statistics.bootstrap import estimate_of, resampled_counts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from frostline.search.interface import Climb, Rungs, Search
    from frostline.search.spaces.space import SearchSpace

    Array = NDArray[np.float64]

_Found = TypeVar("_Found")

FEWEST_PAIRS = 6
"""Configurations at both of two rungs below which no shift between them is told."""

# One in so many promotions is a scout's.
_SHARE_OF_SCOUTS = 3
_SCOUTED = (0.5, -0.5, 1.0, -1.0)
_RESAMPLES = 200
_MOST_FITTED = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How one rung is read: by its scores, or, where that is sure, as if it had trained other values."""

    rung: int
    num_pairs: int
    """How many configurations the next rung has told of."""
    shifts: Mapping[str, tuple[float, float, float]]
    """Of each hyperparameter, in decades: the shift at which the rung ranks as the next one does, and its 95 % interval."""
    moved: str | None
    """The hyperparameter that is moved; None where no interval leaves out 0."""


def reading_sentences(readings: Sequence[Reading], ladder: Rungs) -> list[str]:
    """Return, for each rung that could be read otherwise, how it was read, why, and how sure that is."""
    sentences = []
    for reading in readings:
        layers = ladder.rungs[reading.rung].trainable_layers
        rung = f"rung {reading.rung} ({layers} of {ladder.num_layers} layers trained)"
        by = f"by {reading.num_pairs} configurations that the next rung has too"
        told = {
            name: f"{shift:+.2g} decades [{low:+.2g}, {high:+.2g}]"
            for name, (shift, low, high) in reading.shifts.items()
        }
        if reading.moved is not None:
            factor = 10 ** reading.shifts[reading.moved][0]
            sentences.append(
                f"{rung} was read as if it had trained {factor:.2g} times the {reading.moved}: {told[reading.moved]}, {by}."
            )
        else:
            every = ", ".join(f"{name} {text}" for name, text in told.items())
            sentences.append(f"{rung} was read as it is: no shift is sure, {by} ({every}).")
    return sentences


class RealignedSearch:
    """A search by halving whose rungs of few layers are read through a surrogate once the next rung has told by how much.

    A third of those that a rung promotes first are scouts: the best by its surrogate if the hyperparameter that matters
    most were half or one decade higher or lower. A synchronous search promotes half of a rung, and the rest when those have
    ended. From six configurations that both rungs have, the shift is sought at which the surrogate ranks them as the next
    rung does; where its bootstrap interval leaves out 0, all that are left are ranked by the surrogate at that shift. Where
    not, and where a rung promotes fewer than eight, the search is what it is without.
    """

    def __init__(self, *, search: Climb, space: SearchSpace, waits: bool = True) -> None:
        self.search = search
        self.space = space
        self.waits = waits
        """Whether the search is synchronous: then the second half of a rung's promotions waits for the first."""
        # Both follow from the history alone, and are kept because they are asked for after every evaluation.
        self._remembered: dict[tuple[str, int], tuple[object, Any]] = {}
        self._view = _View()

    @property
    def ladder(self) -> Rungs:
        """The rungs of the search."""
        return self.search.ladder

    @property
    def configurations(self) -> int:
        """The total number of configurations, over all runs of the study."""
        return self.search.configurations

    @property
    def fingerprint(self) -> str:
        """A string that changes when a study made with this search cannot be continued with another."""
        return f"{self.search.fingerprint}, realigned"

    def evaluations_per_rung(self) -> Sequence[int]:
        """Return how many evaluations each rung sees, as the search itself."""
        return self.search.evaluations_per_rung()

    def started_per_rung(self) -> Sequence[int]:
        """Return how many configurations begin their climb at each rung."""
        return self.search.started_per_rung()

    def next_requests(self, history: History, *, capacity: int) -> list[Request]:
        """See ``Search``."""
        view = self._view_of(history)
        wanted = self.search.next_requests(view, capacity=capacity)
        return [request for request in wanted if not self._is_held(request, wanted, history)]

    def eliminated(self, history: History) -> list[int]:
        """Return those that the search eliminates, once the rung above has taken all that it takes.

        Before, a new reading may still call upon them.
        """
        view = self._view_of(history)
        found = [*self.search.eliminated(view)]
        if not history.pending and not self.search.next_requests(view, capacity=1):
            return found
        expected = self.evaluations_per_rung()
        taken = []
        for number in found:
            last = history.last_evaluation(number)
            is_spoiled = last is not None and last.status is not Status.FINISHED
            above = 0 if last is None else last.rung + 1
            if is_spoiled or not self._is_read(above - 1) or history.rung(above).num_started >= expected[above]:
                taken.append(number)
        return taken

    def readings(self, history: History) -> list[Reading]:
        """Return how each rung that could be read otherwise is read by now, the lowest first."""
        found = (self._reading(history, rung) for rung in range(len(self.ladder.rungs) - 1) if self._is_read(rung))
        return [reading for reading in found if reading is not None]

    def _is_read(self, rung: int) -> bool:
        """Return whether a rung trains few layers and promotes enough for some of them to be scouts."""
        few = self.ladder.rungs[rung].trainable_layers < self.ladder.num_layers
        return few and self._num_promoted(rung) >= FEWEST_PAIRS + 2 and bool(self.space.scales)

    def _num_promoted(self, rung: int) -> int:
        """Return how many a rung promotes in all: of those at the next one, some may have begun there."""
        return self.evaluations_per_rung()[rung + 1] - self.started_per_rung()[rung + 1]

    def _first_half(self, rung: int) -> int:
        """Return after how many of its promotions a rung is read."""
        return max(FEWEST_PAIRS, -(-self._num_promoted(rung) // 2))

    def _is_open(self, history: History, rung: int) -> bool:
        """Return whether configurations are still to come at a rung of a synchronous search: it is not read before."""
        return self.waits and history.rung(rung).num_ended < self.evaluations_per_rung()[rung]

    def _is_held(self, request: Request, wanted: Sequence[Request], history: History) -> bool:
        """Return whether a promotion waits until those before it have told how its rung is to be read."""
        below = request.rung - 1
        if not self.waits or below < 0 or not self._is_read(below) or self._is_open(history, below):
            return False
        if history.evaluation(request.number, below) is None:
            return False
        climbed = [number for number in history.rung(below).ranking if _has_climbed(history, number, below)]
        first = self._first_half(below)
        if sum(history.evaluation(number, request.rung) is not None for number in climbed) >= first:
            return False
        promoted = [one for one in wanted if one.rung == request.rung and history.evaluation(one.number, below)]
        return len(climbed) + promoted.index(request) >= first

    def _view_of(self, history: History) -> History:
        """Return the history as the search is to see it: with the ranks that rungs have by their readings for scores."""
        last = len(self.ladder.rungs) - 1
        ranks = [
            self._ranks(history, rung) if rung < last and self._is_read(rung) else None
            for rung in range(history.num_rungs)
        ]
        return self._view.of(history, ranks)

    def _ranks(self, history: History, rung: int) -> dict[int, int] | None:
        """Return the place of every configuration that finished at ``rung``; None where the scores say it.

        Those that have climbed come first, so that a new reading does not let more climb than the search would.
        """
        ranking = history.rung(rung).ranking
        if len(ranking) < FEWEST_PAIRS or self._is_open(history, rung):
            return None
        reading = self._reading(history, rung)
        order: Sequence[int] = ranking
        if reading is None:
            order = self._before_reading(history, rung)
        elif reading.moved is not None:
            expected = self._expected(history, rung, ranking, {reading.moved: reading.shifts[reading.moved][0]})
            order = [ranking[index] for index in np.argsort(expected, kind="stable")]
        climbed = [number for number in order if _has_climbed(history, number, rung)]
        places = dict.fromkeys([*climbed, *order])
        return {number: place for place, number in enumerate(places)}

    def _before_reading(self, history: History, rung: int) -> list[int]:
        """Return the configurations of a rung, the scouts first, then by score."""
        ranking = tuple(history.rung(rung).ranking)
        return self._remember("before", rung, ranking, lambda: self._with_scouts(history, rung, ranking))

    def _with_scouts(self, history: History, rung: int, ranking: Sequence[int]) -> list[int]:
        """Return ``ranking`` with those first that would be the best if what matters most had another value throughout."""
        lengths = self._response(history, rung).lengths
        name = min(self.space.scales, key=lambda one: lengths[Coordinates(space=self.space).column(one)])
        shifts = (shift for shift in _SCOUTED if abs(shift) <= self.space.scales[name] / 2)
        best = (self._expected(history, rung, ranking, {name: shift}).argmin() for shift in shifts)
        scouts = list(dict.fromkeys(ranking[int(index)] for index in best))
        return list(dict.fromkeys([*scouts[: self._num_promoted(rung) // _SHARE_OF_SCOUTS], *ranking]))

    def _reading(self, history: History, rung: int) -> Reading | None:
        """Return how a rung is read; None before the next one has told enough."""
        first = self._first_half(rung)
        ranking = tuple(history.rung(rung).ranking)
        if len(ranking) < first or self._is_open(history, rung):
            return None
        # By the first half alone where the others wait for it: what is asked for must not depend on who ends when.
        asked = self._before_reading(history, rung)[:first] if self.waits else ranking
        ended = {number for number in asked if history.evaluation(number, rung + 1) is not None}
        pairs = tuple(number for number in history.rung(rung + 1).ranking if number in ended)
        if len(pairs) < FEWEST_PAIRS or len(ended) < first:
            return None
        return self._remember("reading", rung, (ranking, pairs), lambda: self._found(history, rung, pairs))

    def _found(self, history: History, rung: int, pairs: Sequence[int]) -> Reading:
        """Return how a rung is read that ``pairs`` have left, in the order in which the next one ranks them."""
        number = len(pairs)
        counts = resampled_counts(number, resamples=_RESAMPLES, seed=0)
        points, losses = self._positions(history, pairs), np.arange(number, dtype=np.float64)
        shifts = {}
        for name in self.space.scales:
            response = self._response(history, rung)
            found = estimate_of(
                ranking_shifts(response, Coordinates(space=self.space), name, points, losses, counts)
            )
            shifts[name] = (float(found.value), float(found.low), float(found.high))
        sure = [name for name, (_, low, high) in shifts.items() if low > 0 or high < 0]
        # The surest is the one whose interval lies furthest from 0 for its width.
        moved = max(
            sure, key=lambda name: abs(shifts[name][0]) / (1 + shifts[name][2] - shifts[name][1]), default=None
        )
        return Reading(rung=rung, num_pairs=number, shifts=shifts, moved=moved)

    def _expected(self, history: History, rung: int, numbers: Sequence[int], shifts: Mapping[str, float]) -> Array:
        """Return what the surrogate of a rung expects of configurations at other values, (len(numbers),)."""
        points = Coordinates(space=self.space).moved(self._positions(history, numbers), shifts)
        return self._response(history, rung).at(points)

    def _response(self, history: History, rung: int) -> Response:
        """Return the surrogate of a rung; of an asynchronous one it is made anew when a tenth more has ended."""
        ranking = history.rung(rung).ranking
        num_fitted = min(len(ranking), _MOST_FITTED) if self.waits else _num_fitted(len(ranking))
        numbers = tuple(sorted(ranking)[:num_fitted])

        def fit() -> Response:
            places = {number: place for place, number in enumerate(ranking)}
            losses = np.array([places[number] for number in numbers], dtype=np.float64)
            return Response.fit(self._positions(history, numbers), losses)

        return self._remember("response", rung, numbers, fit)

    def _positions(self, history: History, numbers: Sequence[int]) -> Array:
        return Coordinates(space=self.space).of([history.configurations[number] for number in numbers])

    def _remember(self, what: str, rung: int, follows_from: object, find: Callable[[], _Found]) -> _Found:
        known = self._remembered.get((what, rung))
        if known is None or known[0] != follows_from:
            known = self._remembered[what, rung] = follows_from, find()
        found: _Found = known[1]
        return found


class _View:
    """A history with ranks for scores, kept up to date as long as no rung's ranks change."""

    def __init__(self) -> None:
        self._source: History | None = None
        self._ranks: list[Mapping[int, int] | None] = []
        self._num_evaluations = 0
        self._view = History("minimize")

    def of(self, history: History, ranks: Sequence[Mapping[int, int] | None]) -> History:
        """Return the view of ``history`` in which rung r has the scores ``ranks[r]``, or its losses where that is None."""
        if history is not self._source or any(rank != new for rank, new in zip(self._ranks, ranks, strict=False)):
            self._source, self._num_evaluations, self._view = history, 0, History("minimize")
        self._ranks = [*ranks]
        view = self._view
        for configuration in history.configurations[len(view.configurations) :]:
            view.add_configuration(configuration)
        for evaluation in history.evaluations(since=self._num_evaluations):
            view.finish(_seen(evaluation, history, ranks[evaluation.rung]))
        self._num_evaluations = history.num_evaluations
        for request in [request for request in history.pending if request not in view.pending]:
            view.start(request)
        if len(history.eliminated) > len(view.eliminated):
            for number in history.eliminated - view.eliminated:
                view.eliminate(number)
        return view


def _num_fitted(num_ended: int) -> int:
    """Return to how many of so many configurations a surrogate is fitted: the same until a tenth more have ended."""
    fitted = FEWEST_PAIRS
    while (more := max(fitted + 1, fitted * 11 // 10)) <= min(num_ended, _MOST_FITTED):
        fitted = more
    return fitted


def _seen(evaluation: Evaluation, history: History, ranks: Mapping[int, int] | None) -> Evaluation:
    if evaluation.score is None:
        return evaluation
    if ranks is None:
        return replace(evaluation, score=loss_sign(history.direction) * evaluation.score)
    return replace(evaluation, score=float(ranks[evaluation.number]))


def _has_climbed(history: History, number: int, rung: int) -> bool:
    return history.has_begun(number, rung + 1)


def inner_search(search: Search) -> Search:
    """Return the search that a realigned one reads the rungs for, or ``search`` itself."""
    return search.search if isinstance(search, RealignedSearch) else search
