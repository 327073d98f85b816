"""What a sweep asks for together, what it waits for, and that nothing of it depends on the order of arrival."""

from __future__ import annotations

from functools import partial
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from frostline.records import Request, Status
from frostline.search.algorithms.sweep import Sweep
from frostline.search.history import History
from frostline.search.interface import Search
from frostline.search.ladder import Ladder
from tests.search.simulation import LADDER, Delegating, Simulation, drawn, ended, same_facts

# Rung 1 continues rung 0, rung 4 rung 3; rungs 2 and 3 start from scratch.
MIXED = Ladder.explicit([(2, 100), (2, 500), (6, 500), (10, 500), (10, 1000)], num_layers=10, full_samples=1000)
LADDERS = [LADDER, MIXED, Ladder.samples_only(num_layers=10, full_samples=1000)]
SEEDS = st.integers(0, 2**32)


def asked(sweep: Sweep, history: History, *, capacity: int = 99) -> list[tuple[int, int]]:
    return [(request.number, request.rung) for request in sweep.next_requests(history, capacity=capacity)]


def start(history: History, *requests: tuple[int, int]) -> None:
    for number, rung in requests:
        if number == len(history.configurations):
            history.add_configuration(drawn(number))
        history.start(Request(number, rung))


def finish(history: History, number: int, rung: int, outcome: float | Status = 1.0) -> None:
    history.finish(ended(Request(number, rung), outcome))


def test_rungs_of_other_layers_are_asked_for_at_once_and_the_full_one_last() -> None:
    sweep, history = Sweep(ladder=LADDER, configurations=3), History("minimize")
    assert asked(sweep, history, capacity=5) == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]
    start(history, (0, 0), (0, 1), (1, 0))
    assert asked(sweep, history) == [(1, 1), (2, 0), (2, 1)]
    finish(history, 0, 1)
    assert asked(sweep, history, capacity=1) == [(1, 1)]
    finish(history, 0, 0)
    assert asked(sweep, history, capacity=2) == [(0, 2), (1, 1)]
    assert asked(sweep, history, capacity=0) == []


def test_a_rung_that_continues_the_one_below_waits_until_it_has_finished() -> None:
    sweep, history = Sweep(ladder=MIXED, configurations=1), History("minimize")
    assert asked(sweep, history) == [(0, 0), (0, 2), (0, 3)]
    start(history, (0, 0), (0, 2), (0, 3))
    assert asked(sweep, history) == []
    finish(history, 0, 3)
    assert asked(sweep, history) == []
    finish(history, 0, 0)
    assert asked(sweep, history) == [(0, 1)]
    finish(history, 0, 2)
    start(history, (0, 1))
    assert asked(sweep, history) == []
    finish(history, 0, 1)
    assert asked(sweep, history) == [(0, 4)]


def test_what_fails_is_asked_for_no_more_and_eliminated_when_nothing_of_it_is_under_way() -> None:
    sweep, history = Sweep(ladder=MIXED, configurations=2), History("minimize")
    start(history, (0, 0), (0, 2), (1, 0))
    finish(history, 0, 2, Status.FAILED)
    assert asked(sweep, history) == [(1, 2), (1, 3)]
    assert sweep.eliminated(history) == []
    finish(history, 0, 0)
    assert asked(sweep, history) == [(1, 2), (1, 3)]
    assert sweep.eliminated(history) == [0]
    history.eliminate(0)
    assert asked(sweep, history) == [(1, 2), (1, 3)]
    assert sweep.eliminated(history) == []


def test_what_diverges_is_not_continued_and_the_other_rungs_are_evaluated_all_the_same() -> None:
    sweep, history = Sweep(ladder=LADDER, configurations=1), History("minimize")
    start(history, (0, 0), (0, 1))
    finish(history, 0, 0, Status.DIVERGED)
    assert asked(sweep, history) == []
    finish(history, 0, 1)
    assert sweep.eliminated(history) == []
    assert asked(sweep, history) == [(0, 2)]

    sweep, history = Sweep(ladder=MIXED, configurations=1), History("minimize")
    start(history, (0, 0), (0, 2), (0, 3))
    finish(history, 0, 0, Status.DIVERGED)
    finish(history, 0, 2)
    assert asked(sweep, history) == []
    finish(history, 0, 3, Status.DIVERGED)
    # The full training continues a diverged one: there is nothing left to do.
    assert asked(sweep, history) == []
    assert sweep.eliminated(history) == [0]


def test_what_a_dead_worker_left_is_asked_for_again_before_anything_new() -> None:
    sweep, history = Sweep(ladder=MIXED, configurations=9), History("minimize")
    start(history, (0, 0), (0, 2), (0, 3), (1, 0), (1, 2))
    finish(history, 0, 3)
    finish(history, 0, 2)
    finish(history, 1, 2)
    history = same_facts(history)
    assert asked(sweep, history, capacity=4) == [(0, 0), (1, 0), (1, 3), (2, 0)]


def test_a_full_evaluation_that_a_dead_worker_left_is_asked_for_again() -> None:
    sweep, history = Sweep(ladder=LADDER, configurations=1), History("minimize")
    start(history, (0, 0), (0, 1))
    finish(history, 0, 0)
    finish(history, 0, 1)
    start(history, (0, 2))
    history = same_facts(history)
    assert asked(sweep, history) == [(0, 2)]
    finish(history, 0, 2)
    assert asked(sweep, history) == []


class Checked(Delegating):
    """A sweep whose every answer is compared with one read off the rule, over all configurations."""

    def __init__(self, sweep: Sweep) -> None:
        super().__init__(sweep)
        self.sweep = sweep

    def next_requests(self, history: History, *, capacity: int) -> list[Request]:
        requests = self.sweep.next_requests(history, capacity=capacity)
        everything = [
            Request(number, rung)
            for number in range(self.sweep.configurations)
            for rung in range(len(self.sweep.ladder.rungs))
            if self.may_begin(history, number, rung)
        ]
        assert requests == everything[:capacity]
        last = len(self.sweep.ladder.rungs) - 1
        spoiled = {one.number for one in history.evaluations() if one.status is not Status.FINISHED}
        spoiled -= {request.number for request in history.pending} | history.eliminated
        over = {
            number
            for number in spoiled
            if not any(self.may_begin(history, number, rung) for rung in range(last + 1))
            and history.evaluation(number, last) is None
        }
        assert self.sweep.eliminated(history) == sorted(over)
        return requests

    def may_begin(self, history: History, number: int, rung: int) -> bool:
        rungs = range(len(self.sweep.ladder.rungs))
        statuses = [one.status if (one := history.evaluation(number, at)) else None for at in rungs]
        if Status.FAILED in statuses or statuses[rung] is not None or Request(number, rung) in history.pending:
            return False
        if rung == rungs[-1] and not all(statuses[at] or self.is_out_of_reach(at, statuses) for at in rungs[:-1]):
            return False
        return not self.sweep.ladder.continues(rung) or statuses[rung - 1] is Status.FINISHED

    def is_out_of_reach(self, rung: int, statuses: list[Status | None]) -> bool:
        if not self.sweep.ladder.continues(rung):
            return False
        return statuses[rung - 1] is Status.DIVERGED or self.is_out_of_reach(rung - 1, statuses)


def outcome_of(request: Request, *, seed: int, faults: float) -> float | Status:
    random = Random(f"{seed} {request}")
    return random.choice([Status.DIVERGED, Status.FAILED]) if random.random() < faults else random.random()


def simulations(*, faults: float, checked: bool = True):
    def build(ladder: Ladder, configurations: int, **rest) -> Simulation:
        sweep: Search = Sweep(ladder=ladder, configurations=configurations)
        return Simulation(search=Checked(sweep) if checked else sweep, **rest)

    return st.builds(
        build,
        st.sampled_from(LADDERS),
        configurations=st.integers(1, 20),
        outcome=st.builds(lambda seed: partial(outcome_of, seed=seed, faults=faults), SEEDS),
        workers=st.integers(1, 12),
        seed=SEEDS,
        deaths=st.sampled_from([0.0, 0.2]),
        prunes=st.booleans(),
    )


@given(data=st.data(), faults=st.sampled_from([0.0, 0.1, 0.5]))
def test_every_answer_is_the_one_that_follows_from_the_rule(data, faults: float) -> None:
    simulation = data.draw(simulations(faults=faults))
    history = simulation.run()
    for number in range(simulation.search.configurations):
        rungs = range(len(simulation.search.ladder.rungs))
        if all(not isinstance(simulation.outcome(Request(number, rung)), Status) for rung in rungs):
            assert len(history.evaluations_of(number)) == len(rungs)
        else:
            assert any(one.status is not Status.FINISHED for one in history.evaluations_of(number))


@given(simulation=simulations(faults=0.0, checked=False), workers=st.integers(1, 12), seed=SEEDS)
def test_any_order_of_arrival_gives_the_same_evaluations(simulation: Simulation, workers: int, seed: int) -> None:
    other = Simulation(
        search=simulation.search, outcome=simulation.outcome, workers=workers, seed=seed, prunes=True
    )
    found = [{(one.request, one.score) for one in run.run().evaluations()} for run in (simulation, other)]
    assert found[0] == found[1]
    assert len(found[0]) == simulation.search.configurations * len(simulation.search.ladder.rungs)


@given(simulation=simulations(faults=0.2, checked=False), data=st.data())
def test_a_killed_sweep_that_is_replayed_asks_for_what_was_under_way_and_then_the_same(simulation, data) -> None:
    """The evaluations alone, told in any order, lead to the next step that those with their pendings do."""
    ends = list(simulation.run().evaluations())
    known = ends[: data.draw(st.integers(0, len(ends)))]
    answers = []
    for order in (known, data.draw(st.permutations(known))):
        history = History(simulation.direction)
        for number in range(max((one.number for one in known), default=-1) + 1):
            history.add_configuration(drawn(number))
        for evaluation in order:
            history.finish(evaluation)
        requests = Checked(simulation.search).next_requests(history, capacity=7)
        for request in requests[:3]:
            start(history, (request.number, request.rung))
        assert Checked(simulation.search).next_requests(history, capacity=4) == requests[3:]
        answers.append(requests)
    assert answers[0] == answers[1]
