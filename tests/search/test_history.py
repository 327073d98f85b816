from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frostline.records import Request, Status
from frostline.search.history import History
from frostline.search.variety import varied_order
from tests.search.simulation import drawn, ended

OUTCOMES = st.one_of(st.integers(-2, 2).map(float), st.sampled_from([Status.DIVERGED, Status.FAILED]))
NUM_RUNGS = 3


@st.composite
def events(draw):
    """Operations that a search's history may see, in an order it may see them in."""
    found: list[tuple] = []
    num_configurations, pending, done = 0, set(), set()
    for _ in range(draw(st.integers(0, 60))):
        # In a sweep any rung may be under way before, or without, the one below.
        startable = {(number, rung) for number in range(num_configurations) for rung in range(NUM_RUNGS)}
        startable -= pending | done
        kinds = ["add"] + ["start"] * bool(startable) + ["finish", "finish"] * bool(pending)
        kind = draw(st.sampled_from(kinds))
        if kind == "add":
            found.append(("add", num_configurations))
            num_configurations += 1
        elif kind == "start":
            at = draw(st.sampled_from(sorted(startable)))
            pending.add(at)
            found.append(("start", Request(*at)))
        else:
            at = draw(st.sampled_from(sorted(pending)))
            pending.discard(at)
            done.add(at)
            found.append(("finish", ended(Request(*at), draw(OUTCOMES))))
    return found


def test_who_took_too_long_is_passed_over() -> None:
    history = History("minimize")
    for number in range(5):
        history.add_configuration(drawn(number))
        evaluation = ended(Request(number, 0), float(number))
        history.finish(
            replace(evaluation, cost=replace(evaluation.cost, seconds=[9.0, 1.0, 8.0, 2.0, 5.0][number]))
        )
    rung = history.rung(0)
    near = rung.passing_over(5.0)
    assert rung.contenders == [0, 1, 2, 3, 4]
    assert near.contenders == near.order == [1, 3, 4]
    assert near.promotable(limit=2, most=9) == [1, 3]
    assert near.beaten(limit=2, is_closed=True) == [4, 0, 2]
    # In units of what all took.
    assert near.dearness(2) == pytest.approx(1.5 / 5.0)
    assert rung.dearness(2) == pytest.approx(5.0 / 5.0)
    assert rung.passing_over(9.0) is rung
    history.start(Request(0, 1))
    history.start(Request(4, 1))
    # Who has begun higher takes nobody's place.
    assert history.rung(0).passing_over(5.0).within(2) == (1, 2)
    assert history.rung(0).passing_over(5.0).within(3) == (3, 1)
    # Whether the others' climb is over changes nothing.
    for number in (1, 2, 3):
        history.eliminate(number)
    again = history.rung(0).passing_over(5.0)
    assert (again.order, again.num_passed) == ([1, 3, 4], 1)


def apply(history: History, event: tuple) -> None:
    kind, what = event
    if kind == "add":
        history.add_configuration(drawn(what))
    else:
        {"start": history.start, "finish": history.finish}[kind](what)


class SlowHistory:
    """What ``History`` promises, looked up by scanning everything."""

    def __init__(self, direction, events, part=None) -> None:
        self.sign = 1 if direction == "minimize" else -1
        self.evaluations, self.pending, self.num = {}, set(), 0
        self.part = range(10**6) if part is None else part
        for kind, what in events:
            if kind == "add":
                self.num += 1
            elif kind == "start":
                self.pending.add(what)
            else:
                self.pending.discard(what.request)
                self.evaluations[what.request] = what

    def at(self, rung):
        return [one for one in self.evaluations.values() if one.rung == rung and one.number in self.part]

    def ranking(self, rung):
        finished = [one for one in self.at(rung) if one.status is Status.FINISHED]
        return [one.number for one in sorted(finished, key=lambda one: (self.sign * one.score, one.number))]

    def unpromoted(self, rung):
        up = {one.number for one in (*self.evaluations, *self.pending) if one.rung > rung}
        return [number for number in self.ranking(rung) if number not in up]

    def num_started(self, rung):
        return len(self.at(rung)) + sum(one.rung == rung and one.number in self.part for one in self.pending)

    def unstarted(self):
        busy = {one.number for one in (*self.evaluations, *self.pending)}
        return [number for number in range(self.num) if number in self.part and number not in busy]


@given(events=events(), direction=st.sampled_from(["minimize", "maximize"]), data=st.data())
def test_a_history_answers_as_a_scan_of_everything_would(events, direction, data) -> None:
    part = data.draw(st.sampled_from([None, range(3), range(2, 9)]))
    asked_at = data.draw(st.integers(0, len(events)))
    history = History(direction)
    for position, event in enumerate(events):
        if position == asked_at:
            history.rung(0, part=part)
        apply(history, event)
    slow = SlowHistory(direction, events, part)
    assert history.pending == slow.pending
    assert history.unstarted(slow.part) == slow.unstarted()
    for number in range(slow.num):
        assert history.is_pending(number) == any(request.number == number for request in slow.pending)
        ends = sorted((one for one in slow.evaluations.values() if one.number == number), key=lambda one: one.rung)
        assert history.evaluations_of(number) == ends
        begun = {rung for rung in range(NUM_RUNGS) if history.has_begun(number, rung)}
        assert begun == {one.rung for one in (*ends, *slow.pending) if one.number == number}
    for index in range(NUM_RUNGS):
        rung, ranking, unpromoted = history.rung(index, part=part), slow.ranking(index), slow.unpromoted(index)
        assert rung.ranking == ranking
        assert (rung.num_started, rung.num_ended) == (slow.num_started(index), len(slow.at(index)))
        assert rung.num_pending == rung.num_started - rung.num_ended
        limit, most = data.draw(st.integers(0, 9)), data.draw(st.integers(0, 9))
        within = [number for number in unpromoted if ranking.index(number) < limit]
        assert rung.promotable(limit=limit, most=most) == within[:most]
        assert rung.num_promotable(limit=limit) == len(within)
        unfinished = sorted(one.number for one in slow.at(index) if one.status is not Status.FINISHED)
        assert rung.beaten(limit=limit) == unpromoted[len(within) :] + unfinished


@given(events=events(), direction=st.sampled_from(["minimize", "maximize"]), data=st.data())
def test_from_a_rung_that_varies_those_climb_first_that_are_unlike_each_other(events, direction, data) -> None:
    part = data.draw(st.sampled_from([None, range(2, 9)]))
    asked_at = data.draw(st.integers(0, len(events)))
    history = History(direction)
    for position, event in enumerate(events):
        if position == asked_at:
            history.rung(0, part=part, varies=True).promotable(limit=1, most=1)
        apply(history, event)
    slow = SlowHistory(direction, events, part)
    for index in range(NUM_RUNGS):
        rung, ranking, unpromoted = (
            history.rung(index, part=part, varies=True),
            slow.ranking(index),
            slow.unpromoted(index),
        )
        order = varied_order(ranking, {number: drawn(number).hyperparameters for number in ranking})
        assert (rung.ranking, rung.order) == (ranking, order)
        limit, most = data.draw(st.integers(0, 9)), data.draw(st.integers(0, 9))
        climbing = [number for number in order[:limit] if number in unpromoted]
        assert rung.promotable(limit=limit, most=most) == climbing[:most]
        unfinished = sorted(one.number for one in slow.at(index) if one.status is not Status.FINISHED)
        assert rung.beaten(limit=limit) == unfinished
        staying = [number for number in order if number in unpromoted and number not in climbing]
        assert rung.beaten(limit=limit, is_closed=True) == staying + unfinished


@given(events=events(), data=st.data())
def test_the_eliminated_are_named_no_more_and_the_others_keep_their_order(events, data) -> None:
    history, told = History("minimize"), History("minimize")
    num_configurations = sum(kind == "add" for kind, _ in events)
    eliminated = {number for number in data.draw(st.sets(st.integers(0, 5))) if number < num_configurations}
    told_at = data.draw(st.integers(0, len(events)))
    for position, event in enumerate(events):
        apply(history, event)
        apply(told, event)
        if position >= told_at:
            for number in eliminated:
                if number < len(told.configurations):
                    told.eliminate(number)
    for number in eliminated:
        told.eliminate(number)
    assert told.eliminated == eliminated
    for index, part in itertools.product(range(NUM_RUNGS), (None, range(99))):
        every, left = history.rung(index, part=part), told.rung(index, part=part)
        promotable = [one for one in every.promotable(limit=99, most=99) if one not in eliminated]
        assert left.promotable(limit=99, most=99) == promotable
        assert left.ranking == every.ranking
        assert not eliminated & set(left.beaten(limit=0))
    assert told.unstarted(range(99)) == [one for one in history.unstarted(range(99)) if one not in eliminated]


def test_evaluations_come_in_the_order_in_which_they_ended() -> None:
    history = History("minimize")
    for number in range(3):
        history.add_configuration(drawn(number))
    for number in (2, 0, 1):
        history.finish(ended(Request(number, 0), float(number)))
    assert [one.number for one in history.evaluations()] == [2, 0, 1]
    assert [one.number for one in history.evaluations(since=2)] == [1]
    assert history.num_evaluations == 3
    assert history.evaluation(2, 0) is not None
    assert history.evaluation(2, 1) is None


def test_what_cannot_have_happened_is_refused() -> None:
    history = History("minimize")
    with pytest.raises(AssertionError, match="configuration 1 cannot come after -1"):
        history.add_configuration(drawn(1))
    history.add_configuration(drawn(0))
    history.start(Request(0, 0))
    with pytest.raises(AssertionError, match="was started twice"):
        history.start(Request(0, 0))
    history.finish(ended(Request(0, 0), 1.0))
    with pytest.raises(AssertionError, match="has ended twice"):
        history.finish(ended(Request(0, 0), 1.0))
    with pytest.raises(AssertionError, match="has ended, and was started again"):
        history.start(Request(0, 0))
