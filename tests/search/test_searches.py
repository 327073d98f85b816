from __future__ import annotations

import pickle
from functools import partial
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution

from frostline.errors import LadderError
from frostline.records import Configuration, Request, Status
from frostline.search.algorithms.halving import AsynchronousHalving, SuccessiveHalving
from frostline.search.algorithms.hyperband import Hyperband
from frostline.search.algorithms.realigned import RealignedSearch
from frostline.search.algorithms.sweep import FullFidelity, Sweep
from frostline.search.algorithms.watched import WatchedHalving
from frostline.search.budgets.budget import Budget
from frostline.search.budgets.budgeted import BudgetedHalving
from frostline.search.history import History
from frostline.search.ladder import Ladder
from frostline.search.spaces.space import SearchSpace
from tests.search.simulation import LADDER, Delegating, Simulation, ended, evaluated, same_facts

# One hyperparameter: a surrogate is fitted in a second.
SPACE = SearchSpace(distributions={"rate": FloatDistribution(1e-4, 1e-1, log=True)})


def watched_halving(*, ladder: Ladder, configurations: int) -> WatchedHalving:
    """A halving whose lowest rung must agree a little; of scores that are chance, half do not."""
    return WatchedHalving(ladder=ladder, configurations=configurations, least_agreement=(0.0, -1.0))


def realigned_halving(*, ladder: Ladder, configurations: int) -> RealignedSearch:
    return RealignedSearch(search=SuccessiveHalving(ladder=ladder, configurations=configurations), space=SPACE)


def realigned_hyperband(*, ladder: Ladder, configurations: int) -> RealignedSearch:
    return RealignedSearch(search=Hyperband(ladder=ladder, configurations=configurations), space=SPACE)


def realigned_asynchronous(*, ladder: Ladder, configurations: int) -> RealignedSearch:
    plain = AsynchronousHalving(ladder=ladder, configurations=configurations)
    return RealignedSearch(search=plain, space=SPACE, waits=False)


def budgeted_halving(*, ladder: Ladder, configurations: int) -> BudgetedHalving:
    """A halving that pays for about as many configurations, one of them its user's own."""
    return BudgetedHalving(ladder=ladder, kept=(1 / 3, 1 / 3), budget=Budget(full_trainings=configurations / 4))


ASYNCHRONOUS = [AsynchronousHalving, realigned_asynchronous]
REALIGNED = [realigned_halving, realigned_hyperband, realigned_asynchronous]
EVERY = [
    SuccessiveHalving,
    Hyperband,
    Sweep,
    FullFidelity,
    AsynchronousHalving,
    watched_halving,
    budgeted_halving,
    *REALIGNED,
]
SEEDS = st.integers(0, 2**32)
every_search = pytest.mark.parametrize("search", EVERY, ids=lambda search: search.__name__)

# A realigned search fits surrogates on the way, and a run has a hundred steps.
_EXAMPLES_OF_REALIGNED = 2


def property_of_every_search(*, examples: int, **strategies):
    """Make a test of ``check(search, **drawn)`` for each search, with so many runs of those that are quick."""

    def decorate(check):
        @every_search
        def test(search) -> None:
            number = _EXAMPLES_OF_REALIGNED if search in REALIGNED else examples
            settings(max_examples=number)(given(**strategies)(lambda **drawn: check(search, **drawn)))()

        test.__name__ = check.__name__
        return test

    return decorate


def drawn(number: int) -> Configuration:
    """A configuration with a number for a surrogate to learn from."""
    rate = 10 ** Random(f"configuration {number}").uniform(-4, -1)
    return Configuration(number=number, hyperparameters={"rate": rate})


def score(request: Request, *, seed: int = 0, levels: int = 5) -> float:
    """A score with many ties."""
    return float(Random(f"{seed} {request.number} {request.rung}").randrange(levels))


def score_or_fault(request: Request, *, seed: int, faults: float) -> float | Status:
    random = Random(f"{seed} {request}")
    if random.random() < faults:
        return random.choice([Status.DIVERGED, Status.FAILED])
    return score(request, seed=seed)


def model_cost(number: int) -> float:
    """What a model costs, with many ties."""
    return float(Random(f"cost {number}").randrange(5))


def simulations(search, *, faults: float = 0.0, costs=(None,)):
    """Runs of a search, with any number of workers, in any order of arrival, with dying workers.

    In some of them what models cost counts too, if ``costs`` are ``EITHER``.
    """
    outcome = st.builds(lambda seed: partial(score_or_fault, seed=seed, faults=faults), SEEDS)
    return st.builds(
        lambda cls, configurations, **rest: Simulation(
            search=cls(ladder=LADDER, configurations=configurations), drawn=drawn, **rest
        ),
        st.just(search),
        # Fewer than 24 promote too few for a rung to be read.
        configurations=st.integers(24, 30) if search in REALIGNED else st.integers(17, 45),
        outcome=outcome,
        workers=st.integers(1, 12),
        seed=SEEDS,
        direction=st.sampled_from(["minimize", "maximize"]),
        # Each death has the history made anew: a few in a run are enough, which has about a hundred evaluations.
        deaths=st.sampled_from([0.0, 0.04]),
        prunes=st.booleans(),
        # A realigned search reads scores alone.
        model_cost=st.sampled_from((None,) if search in REALIGNED else costs),
    )


EITHER = (None, model_cost)


def assert_within_budget(simulation: Simulation) -> None:
    """What it costs is the budget or less, but for the last full training that it may round up to."""
    spent = sum(evaluation.cost.seconds for evaluation in simulation.history.evaluations())
    assert spent <= 1.03 * simulation.search.budget.in_seconds(1.0) + 1


@property_of_every_search(examples=50, data=st.data())
def test_each_rung_sees_the_announced_number_of_evaluations(search, data) -> None:
    simulation = data.draw(simulations(search, costs=EITHER))
    seen = evaluated(simulation.run())
    announced = simulation.search.evaluations_per_rung()
    if search is budgeted_halving:
        assert_within_budget(simulation)
        return
    if search in ASYNCHRONOUS or (search is watched_halving and simulation.search.skipped(simulation.history)):
        # Promoted before all have ended, or called upon once a rung was found not to rank: then it is more.
        assert seen[0] == announced[0]
        assert all(one >= other for one, other in zip(seen, announced, strict=True))
    else:
        assert tuple(seen) == announced
    assert len(simulation.history.configurations) == simulation.search.configurations
    assert sum(simulation.search.started_per_rung()) == simulation.search.configurations


@property_of_every_search(examples=50, data=st.data(), faults=st.sampled_from([0.1, 0.5, 0.95]))
def test_faults_never_stop_a_search_nor_exceed_what_is_announced(search, data, faults: float) -> None:
    simulation = data.draw(simulations(search, faults=faults, costs=EITHER))
    history = simulation.run()
    if search is budgeted_halving:
        assert_within_budget(simulation)
        return
    assert len(history.configurations) == simulation.search.configurations
    announced = simulation.search.evaluations_per_rung()
    seen = evaluated(history)
    if search not in ASYNCHRONOUS and search is not watched_halving:
        assert all(one <= other for one, other in zip(seen, announced, strict=True))
    for evaluation in history.evaluations():
        below = history.evaluation(evaluation.number, evaluation.rung - 1)
        # A sweep's rungs of different layers are under way at the same time, and end as they end.
        assert below is None or below.status is Status.FINISHED or search is Sweep
    if search in (SuccessiveHalving, realigned_halving):
        for rung in range(2):
            assert seen[rung + 1] == min(announced[rung + 1], len(history.rung(rung).ranking))
    if search not in (Hyperband, realigned_hyperband, Sweep, FullFidelity):
        # As long as anything finishes, somebody gets one rung further: at the top, or as far as anybody finished.
        assert all(seen[rung + 1] >= 1 for rung in range(2) if history.rung(rung).ranking)


@given(simulation=simulations(SuccessiveHalving, faults=0.1, costs=EITHER), workers=st.integers(1, 12), seed=SEEDS)
def test_synchronous_promotions_do_not_depend_on_arrival(simulation: Simulation, workers: int, seed: int) -> None:
    other = Simulation(
        search=simulation.search,
        outcome=simulation.outcome,
        direction=simulation.direction,
        workers=workers,
        seed=seed,
        model_cost=simulation.model_cost,
    )
    one, two = simulation.run(), other.run()
    for rung in range(3):
        assert one.rung(rung).ranking == two.rung(rung).ranking


@given(simulation=simulations(Hyperband, faults=0.1, costs=EITHER), workers=st.integers(1, 12), seed=SEEDS)
def test_hyperbands_promotions_do_not_depend_on_arrival(simulation: Simulation, workers: int, seed: int) -> None:
    other = Simulation(
        search=simulation.search,
        outcome=simulation.outcome,
        direction=simulation.direction,
        workers=workers,
        seed=seed,
        model_cost=simulation.model_cost,
    )
    ends = [{(one.number, one.rung) for one in run.run().evaluations()} for run in (simulation, other)]
    assert ends[0] == ends[1]


@given(simulation=simulations(SuccessiveHalving))
def test_the_best_climb_and_ties_go_to_the_lower_number(simulation: Simulation) -> None:
    history = simulation.run()
    sign = 1 if simulation.direction == "minimize" else -1
    for rung, quota in enumerate(simulation.search.evaluations_per_rung()[1:]):
        scores = {number: history.evaluation(number, rung).score for number in history.rung(rung).ranking}
        best = sorted(scores, key=lambda number: (sign * scores[number], number))[:quota]
        assert sorted(history.rung(rung + 1).ranking) == sorted(best)


class Watched(Delegating):
    """An asynchronous halving of which every promotion is checked against what was known when it was decided."""

    def __init__(self, search: AsynchronousHalving) -> None:
        super().__init__(search)
        self.promotions = 0

    def next_requests(self, history: History, *, capacity: int) -> list[Request]:
        requests = self.search.next_requests(history, capacity=capacity)
        for request in requests:
            if request.rung > 0:
                below = history.rung(request.rung - 1)
                assert below.ranking.index(request.number) < below.num_ended // self.search.reduction_factor
                self.promotions += 1
        return requests


@given(simulation=simulations(AsynchronousHalving))
def test_asynchronous_halving_never_promotes_outside_the_top_share(simulation: Simulation) -> None:
    simulation.search = Watched(simulation.search)
    simulation.prunes = False
    history = simulation.run()
    assert simulation.search.promotions >= sum(evaluated(history)[1:])
    for rung in range(2):
        # In the end all of the top share have climbed.
        below = history.rung(rung)
        assert below.promotable(limit=below.num_ended // 3, most=99) == []


@property_of_every_search(examples=20, data=st.data())
def test_a_replayed_history_gives_the_same_next_step(search, data) -> None:
    """Another history of the same facts, told in another order, leads to the same requests and eliminations."""
    simulation = data.draw(simulations(search, faults=0.1, costs=EITHER))
    simulation.prunes = False
    whole = list(simulation.run().evaluations())
    num = data.draw(st.integers(0, len(whole)))
    known = whole[:num]
    num_configurations = max((one.number for one in known), default=-1) + 1
    answers = []
    for order in (known, sorted(known, key=lambda one: (one.number, one.rung)), data.draw(st.permutations(known))):
        history = History(simulation.direction)
        for number in range(num_configurations):
            history.add_configuration(drawn(number))
        for evaluation in order:
            history.finish(evaluation)
        capacity = data.draw(st.just(5))
        search = pickle.loads(pickle.dumps(simulation.search))
        answers.append((search.next_requests(history, capacity=capacity), search.eliminated(history)))
    assert answers[0] == answers[1] == answers[2]


@property_of_every_search(examples=20, data=st.data())
def test_a_search_killed_between_two_steps_goes_on_as_it_would_have(search, data) -> None:
    """At every step a new search on a history made anew answers as the old one does."""
    simulation = data.draw(simulations(search, faults=0.1, costs=EITHER))
    run = simulation.search.next_requests

    class Resumed(Delegating):
        def next_requests(self, history: History, *, capacity: int) -> list[Request]:
            again = same_facts(history, pending=history.pending)
            requests = run(history, capacity=capacity)
            assert run(again, capacity=capacity) == requests
            assert run(history, capacity=capacity) == requests
            return requests

    simulation.search = Resumed(simulation.search)
    simulation.run()


@property_of_every_search(examples=20, data=st.data())
def test_the_eliminated_get_no_further_and_in_the_end_all_are_named(search, data) -> None:
    simulation = data.draw(simulations(search, faults=0.2, costs=EITHER))
    simulation.prunes = False
    search, named_at, last = simulation.search, {}, len(LADDER.rungs) - 1

    class Watching(Delegating):
        def next_requests(self, history: History, *, capacity: int) -> list[Request]:
            for number in search.eliminated(history):
                named_at.setdefault(number, sum(history.evaluation(number, rung) is not None for rung in range(3)))
            return search.next_requests(history, capacity=capacity)

    simulation.search = Watching(search)
    history = simulation.run()
    for number, num_evaluations in named_at.items():
        assert num_evaluations >= 1
        assert sum(history.evaluation(number, rung) is not None for rung in range(3)) == num_evaluations
    for configuration in history.configurations:
        assert (configuration.number in named_at) == (history.evaluation(configuration.number, last) is None)
    assert search.eliminated(history) == sorted(named_at)


@property_of_every_search(examples=20, data=st.data())
def test_telling_the_history_of_the_eliminated_changes_nothing(search, data) -> None:
    simulation = data.draw(simulations(search, costs=EITHER))
    other = Simulation(
        search=simulation.search,
        outcome=simulation.outcome,
        direction=simulation.direction,
        workers=simulation.workers,
        seed=simulation.seed,
        deaths=simulation.deaths,
        prunes=not simulation.prunes,
        drawn=simulation.drawn,
        model_cost=simulation.model_cost,
    )
    simulation.run()
    other.run()
    assert simulation.asked == other.asked
    assert {len(one.search.eliminated(one.history)) for one in (simulation, other) if one.prunes} == {0}


@every_search
@pytest.mark.parametrize("workers", [1, 5])
def test_a_known_best_configuration_is_found(search, workers: int) -> None:
    """The lowest rungs mislead, the upper ones less and less; the best of all is still among those that climb."""
    noise = (3.0, 1.0, 0.0)

    def outcome(request: Request) -> float:
        return abs(request.number - 20) + noise[request.rung] * Random(f"{request}").random()

    history = Simulation(
        search=search(ladder=LADDER, configurations=60), outcome=outcome, workers=workers, drawn=drawn
    ).run()
    assert history.rung(2).ranking[0] == 20


@pytest.mark.parametrize("search", [SuccessiveHalving, AsynchronousHalving, Sweep, FullFidelity])
def test_more_configurations_may_be_asked_for_later(search) -> None:
    first = Simulation(search=search(ladder=LADDER, configurations=27), outcome=score, workers=3, prunes=True)
    history = first.run()
    before = evaluated(history)
    first.search = search(ladder=LADDER, configurations=60)
    assert first.search.fingerprint == search(ladder=LADDER, configurations=27).fingerprint
    history = first.run()
    after = evaluated(history)
    assert len(history.configurations) == 60
    announced = first.search.evaluations_per_rung()
    assert all(seen >= wanted for seen, wanted in zip(after, announced, strict=True))
    assert all(seen <= old + wanted for seen, old, wanted in zip(after, before, announced, strict=True))


@given(configurations=st.integers(0, 500), num_rungs=st.integers(2, 5), factor=st.integers(2, 5))
def test_hyperband_divides_the_whole_total(configurations: int, num_rungs: int, factor: int) -> None:
    ladder = Ladder.samples_only(num_layers=3, full_samples=10**6, num_rungs=num_rungs)
    try:
        search = Hyperband(ladder=ladder, configurations=configurations, reduction_factor=factor)
    except LadderError:
        assert configurations < sum(-(-num_rungs * factor**s // (s + 1)) for s in range(num_rungs))
        return
    sizes = search.configurations_per_bracket()
    assert sum(sizes) == configurations
    assert all(type(size) is int for size in sizes)
    assert sum(search.evaluations_per_rung()) >= configurations
    for bracket, size in enumerate(sizes):
        assert size >= factor ** (num_rungs - 1 - bracket)
    numbers = [number for bracket in search.brackets for number in bracket.numbers]
    assert numbers == list(range(configurations))


def test_hyperbands_brackets_are_those_of_the_paper() -> None:
    """Table 1 of Li et al. 2018, R = 81 and a reduction factor of 3, with its rounding up of fractions."""
    ladder = Ladder.samples_only(num_layers=3, full_samples=10**6, num_rungs=5)
    search = Hyperband(ladder=ladder, configurations=81 + 34 + 15 + 8 + 5)
    assert [bracket.quotas for bracket in search.brackets] == [
        (81, 27, 9, 3, 1),
        (34, 11, 3, 1),
        (15, 5, 1),
        (8, 2),
        (5,),
    ]


@pytest.mark.parametrize("search", [SuccessiveHalving, AsynchronousHalving])
def test_numbers_per_rung_are_divided_exactly(search) -> None:
    ladder = Ladder.samples_only(num_layers=3, full_samples=10**6, num_rungs=6)
    # floor(log(243) / log(3)) is 4: a logarithm would lose the last rung.
    assert search(ladder=ladder, configurations=243).evaluations_per_rung() == (243, 81, 27, 9, 3, 1)
    assert search(ladder=LADDER, configurations=29).evaluations_per_rung() == (29, 9, 3)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (
            lambda: SuccessiveHalving(ladder=LADDER, configurations=5),
            "5 configurations cannot climb 3 rungs with a reduction factor of 3: ask for at least 9 configurations or use "
            "2 rungs or use a reduction factor of 2.",
        ),
        (
            lambda: AsynchronousHalving(ladder=LADDER, configurations=2),
            "2 configurations cannot climb 3 rungs with a reduction factor of 3: ask for at least 9 configurations.",
        ),
        (
            lambda: SuccessiveHalving(ladder=LADDER, configurations=27, reduction_factor=1),
            "reduction_factor is 1, but it must be at least 2, or nothing is eliminated: use 2 or more, or the search",
        ),
        (lambda: Hyperband(ladder=LADDER, configurations=27, reduction_factor=0), "reduction_factor is 0"),
        (
            lambda: Hyperband(ladder=LADDER, configurations=16),
            "16 configurations are too few for the 3 brackets of Hyperband with a reduction factor of 3, which hold "
            "(9, 5, 3): ask for at least 17, or take the search 'halving', which needs 9.",
        ),
        (
            lambda: Sweep(ladder=LADDER, configurations=0),
            "0 configurations were asked for, but a search needs at least 1",
        ),
        (lambda: FullFidelity(ladder=LADDER, configurations=-1), "-1 configurations were asked for"),
    ],
)
def test_too_few_configurations_say_which_numbers_would_work(build, words: str) -> None:
    with pytest.raises(LadderError) as caught:
        build()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_the_message_proposes_works() -> None:
    shorter = Ladder.diagonal(num_layers=10, full_samples=1000, num_rungs=2)
    for search in (
        SuccessiveHalving(ladder=LADDER, configurations=9),
        SuccessiveHalving(ladder=shorter, configurations=5),
        SuccessiveHalving(ladder=LADDER, configurations=5, reduction_factor=2),
    ):
        assert search.evaluations_per_rung()[-1] == 1


def test_fingerprints_tell_searches_apart() -> None:
    searches = [search(ladder=LADDER, configurations=27) for search in EVERY]
    searches.append(SuccessiveHalving(ladder=LADDER, configurations=27, reduction_factor=2))
    searches.append(Hyperband(ladder=LADDER, configurations=28))
    assert len({search.fingerprint for search in searches}) == len(searches)


def test_a_dead_workers_request_is_asked_for_again() -> None:
    search, history = SuccessiveHalving(ladder=LADDER, configurations=27), History("minimize")
    for number in range(3):
        history.add_configuration(drawn(number))
        history.start(Request(number, 0))
    history = same_facts(history, pending=[Request(0, 0), Request(2, 0)])
    assert search.next_requests(history, capacity=2) == [Request(1, 0), Request(3, 0)]
    history.finish(ended(Request(1, 0), 1.0))
    assert search.next_requests(history, capacity=2) == [Request(3, 0), Request(4, 0)]
    assert search.next_requests(history, capacity=0) == []
