"""A search that learns how its lowest rung is to be read: right where optima move, and itself where they do not."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution

from frostline.records import Configuration, Request, Status
from frostline.search.algorithms.halving import AsynchronousHalving, SuccessiveHalving
from frostline.search.algorithms.hyperband import Hyperband
from frostline.search.algorithms.realigned import RealignedSearch, reading_sentences
from frostline.search.history import History
from frostline.search.interface import Search
from frostline.search.ladder import Ladder
from frostline.search.spaces.space import SearchSpace
from tests.search.simulation import Simulation

SPACE = SearchSpace(
    distributions={
        "rate": FloatDistribution(1e-4, 1e-1, log=True),
        "decay": FloatDistribution(1e-6, 1e-2, log=True),
        "optimizer": CategoricalDistribution(("Adam", "SGD")),
    }
)
LADDER = Ladder.explicit([(1, 100), (4, 100), (4, 300)], num_layers=4, full_samples=300)
NUMBER = 45


def drawn(number: int) -> Configuration:
    random = Random(f"configuration {number}")
    values = {
        "rate": 10 ** random.uniform(-4, -1),
        "decay": 10 ** random.uniform(-6, -2),
        "optimizer": random.choice(("Adam", "SGD")),
    }
    return Configuration(number=number, hyperparameters=values)


def response(shift: float, noise: float = 0.02, best: float = -2.3) -> Callable[[Request], float]:
    """Scores whose best rate is 10^``best`` but for the lowest rung, where it lies ``shift`` decades higher."""

    def score(request: Request) -> float:
        from math import log10

        values = drawn(request.number)
        distance = log10(float(values["rate"])) - best - (shift if request.rung == 0 else 0.0)
        slope = 1.0 if distance < 0 else 3.0
        decay = log10(float(values["decay"])) + 4
        return slope * distance**2 + 0.05 * decay**2 + noise * Random(f"{request}").gauss(0, 1)

    return score


def realigned(
    search: type = SuccessiveHalving, number: int = NUMBER, space: SearchSpace = SPACE
) -> RealignedSearch:
    plain = search(ladder=LADDER, configurations=number)
    return RealignedSearch(search=plain, space=space, waits=search is not AsynchronousHalving)


def run(search: Search, outcome: Callable[[Request], float | Status], **rest) -> History:
    return Simulation(search=search, outcome=outcome, drawn=drawn, prunes=True, **rest).run()


def requests_of(history: History) -> set[Request]:
    return {evaluation.request for evaluation in history.evaluations()}


def regret(history: History, outcome: Callable[[Request], float]) -> float:
    """How much worse the search's choice is than the best of all configurations, in full training."""
    best = min(outcome(Request(number, 2)) for number in range(len(history.configurations)))
    return history.evaluation(history.rung(2).ranking[0], 2).score - best


@pytest.mark.parametrize(("shift", "best"), [(1.0, -3.0), (-0.8, -2.3)])
def test_it_finds_what_a_misled_rung_would_have_dropped(shift: float, best: float) -> None:
    outcome = response(shift, best=best)
    plain = run(SuccessiveHalving(ladder=LADDER, configurations=NUMBER), outcome)
    search = realigned()
    history = run(search, outcome, workers=4)
    assert regret(history, outcome) < 0.05 < regret(plain, outcome)
    (reading,) = search.readings(history)
    assert reading.moved == "rate"
    assert reading.shifts["rate"][0] == pytest.approx(shift, abs=0.4)
    # For as many evaluations.
    assert [history.rung(rung).num_ended for rung in range(3)] == [45, 15, 5]
    (sentence,) = reading_sentences([reading], LADDER)
    assert sentence.startswith("rung 0 (1 of 4 layers trained) was read as if it had trained")
    assert "times the rate" in sentence


def test_where_nothing_moves_it_finds_as_good_a_one_and_says_that_it_read_the_rung_as_it_is() -> None:
    outcome = response(0.0, noise=0.1)
    search = realigned()
    history = run(search, outcome)
    assert regret(history, outcome) <= regret(run(search.search, outcome), outcome)
    (reading,) = search.readings(history)
    assert reading.moved is None
    assert reading_sentences([reading], LADDER)[0].startswith("rung 0 (1 of 4 layers trained) was read as it is")


def test_a_maximised_score_is_read_alike() -> None:
    outcome = response(1.0)
    falling = run(realigned(), outcome)
    rising = run(realigned(), lambda request: -outcome(request), direction="maximize")
    assert requests_of(falling) == requests_of(rising)


@pytest.mark.parametrize("search", [SuccessiveHalving, Hyperband])
def test_what_is_asked_for_does_not_depend_on_workers_or_on_the_order_of_arrival(search: type) -> None:
    runs = [run(realigned(search), response(1.0), workers=workers, seed=workers) for workers in (1, 5)]
    assert requests_of(runs[0]) == requests_of(runs[1])


def test_a_search_that_was_killed_goes_on_as_if_it_had_not_been() -> None:
    outcome = response(1.0)
    whole = run(realigned(), outcome)
    evaluations = sorted(whole.evaluations(), key=lambda one: (one.rung, one.number))
    for kept in (45, 50, 53, 58):
        again = History("minimize")
        for number in range(45):
            again.add_configuration(drawn(number))
        # What the search asked for first at every rung is what a killed one has.
        first = list(whole.evaluations())[:kept]
        for evaluation in sorted(first, key=evaluations.index):
            again.finish(evaluation)
        search = realigned()
        while requests := search.next_requests(again, capacity=3):
            for request in requests:
                again.finish(whole.evaluation(request.number, request.rung))
        assert requests_of(again) == requests_of(whole)


@pytest.mark.parametrize("number", [9, 21])
def test_a_rung_that_promotes_few_is_read_by_its_scores(number: int) -> None:
    search = realigned(number=number)
    outcome = response(1.0)
    assert requests_of(run(search, outcome)) == requests_of(run(search.search, outcome))
    assert search.readings(run(search, outcome)) == []


def test_a_space_without_a_logarithmic_range_is_searched_as_it_is() -> None:
    space = SearchSpace(distributions={"rate": FloatDistribution(0.0, 1.0)})
    search = realigned(space=space)
    assert requests_of(run(search, response(1.0))) == requests_of(run(search.search, response(1.0)))


@settings(max_examples=10)
@given(
    search=st.sampled_from([SuccessiveHalving, Hyperband, AsynchronousHalving]),
    number=st.integers(27, 50),
    workers=st.integers(1, 9),
    seed=st.integers(0, 2**32),
    faults=st.sampled_from([0.0, 0.3]),
)
def test_it_ends_with_every_trial_closed_whatever_fails(
    search: type, number: int, workers: int, seed: int, faults: float
) -> None:
    scores = response(1.0)

    def outcome(request: Request) -> float | Status:
        random = Random(f"{seed} {request}")
        return random.choice([Status.DIVERGED, Status.FAILED]) if random.random() < faults else scores(request)

    whole = realigned(search, number)
    history = run(whole, outcome, workers=workers, seed=seed)
    assert not history.pending
    assert whole.next_requests(history, capacity=1) == []
    at_the_top = {one.number for one in history.evaluations() if one.rung == 2}
    assert {*range(number)} == {*history.eliminated, *whole.eliminated(history)} | at_the_top
    if not faults:
        seen = [history.rung(rung).num_ended for rung in range(3)]
        expected = whole.evaluations_per_rung()
        assert all(a >= b for a, b in zip(seen, expected, strict=True))
        if search is not AsynchronousHalving:
            assert seen == list(expected)
