from __future__ import annotations

import json
import logging
import sys
from itertools import product
from random import Random
from statistics import mean, median

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from frostline.errors import OptionError, SearchSpaceError
from frostline.records import Configuration, Request, Status
from frostline.search.history import History
from frostline.search.proposals.mirror import Learning
from frostline.search.proposals.sampling import CMA_ES, GP, QMC, RANDOM, TPE, Draws, Sampling, grid, near
from frostline.search.spaces.space import SearchSpace, holds
from frostline.seeding import derive_seed
from tests.search.simulation import ended

SPACE = SearchSpace(
    distributions={
        "rate": FloatDistribution(1e-4, 1e-1, log=True),
        "width": IntDistribution(1, 16),
        "decay": FloatDistribution(0.0, 1.0),
        "kind": CategoricalDistribution(["one", "two"]),
        "fixed": CategoricalDistribution([7]),
    }
)
GRID = grid(SPACE, num_points=4)
NEAR = near({"rate": 1e-3, "kind": "two", "width": 12})
SAMPLINGS = [RANDOM, QMC, TPE, GP, CMA_ES, GRID, NEAR]
LEARNING = [TPE, GP, CMA_ES]
every_sampling = pytest.mark.parametrize("sampling", SAMPLINGS, ids=lambda sampling: sampling.name)
every_learning = pytest.mark.parametrize("sampling", LEARNING, ids=lambda sampling: sampling.name)


def draws(sampling, *, space=SPACE, root_seed=3, direction="minimize", initial=()) -> Draws:
    return Draws(space=space, sampling=sampling, root_seed=root_seed, direction=direction, initial=initial)


def loss(configuration: Configuration) -> float:
    return abs(configuration["decay"] - 0.8) + abs(configuration["width"] - 12) / 16


def searched(made: Draws, num: int, *, outcome=loss, seed: int = 0) -> History:
    """A history in which some configurations are under way, and the best third climb; scores fall from rung to rung."""
    random = Random(seed)
    sign = 1 if made._direction == "minimize" else -1
    history = History(made._direction)
    for number in range(num):
        history.add_configuration(made.draw(history))
        history.start(Request(number, 0))
        while len(history.pending) > 2:
            request = random.choice(sorted(history.pending))
            result = outcome(history.configurations[request.number])
            result = result if isinstance(result, Status) else sign * (result - request.rung)
            history.finish(ended(request, result))
            rung = history.rung(request.rung)
            if request.rung < 2:
                for promoted in rung.promotable(limit=rung.num_ended // 3, most=1):
                    history.start(Request(promoted, request.rung + 1))
    return history


def told_anew(history: History, num: int, random: Random | None = None) -> History:
    """A history of the first ``num`` configurations, as a storage would give them back, evaluations in another order."""
    again = History(history.direction)
    for one in history.configurations[:num]:
        state = json.loads(json.dumps(dict(one.sampler_state)))
        values = json.loads(json.dumps(dict(one)))
        again.add_configuration(Configuration(number=one.number, hyperparameters=values, sampler_state=state))
    evaluations = [one for one in history.evaluations() if one.number < num]
    if random is not None:
        random.shuffle(evaluations)
    for evaluation in evaluations:
        again.finish(evaluation)
    return again


@every_sampling
def test_every_draw_is_of_the_space(sampling) -> None:
    history = searched(draws(sampling), 16)
    for configuration in history.configurations:
        SPACE.validate(configuration)
        assert list(configuration) == list(SPACE.distributions)
        json.dumps(dict(configuration.sampler_state))
    assert len({tuple(configuration.items()) for configuration in history.configurations}) == 16


@pytest.mark.parametrize("sampling", [RANDOM, QMC], ids=lambda sampling: sampling.name)
@pytest.mark.parametrize("most_at_once", [1, 2, 8, 70])
def test_several_workers_draw_what_one_draws(sampling, most_at_once: int) -> None:
    """Whoever draws leaves out what others have drawn: also the first of a stream, where its own last was one before."""
    sole, history, random = draws(sampling), History("minimize"), Random(most_at_once)
    workers = [draws(sampling) for _ in range(3)]
    while len(history.configurations) < 200:
        worker = random.choice(workers)
        for _ in range(random.randint(1, most_at_once)):
            configuration = worker.draw(history)
            assert configuration == sole.draw(history)
            history.add_configuration(configuration)


@every_sampling
def test_a_resumed_search_draws_what_an_undisturbed_one_draws(sampling) -> None:
    """After every step, draws made anew on a history told anew in another order agree with those that were kept."""
    made, history, random = draws(sampling), History("minimize"), Random(1)
    outcomes = Random(5)
    for number in range(18):
        configuration = made.draw(history)
        anew = draws(sampling).draw(told_anew(history, number, random))
        assert anew == configuration
        assert anew.sampler_state == configuration.sampler_state
        assert made.draw(history) == configuration
        history.add_configuration(configuration)
        history.start(Request(number, 0))
        while len(history.pending) > 2:
            request = outcomes.choice(sorted(history.pending))
            fault = outcomes.random()
            result = Status.DIVERGED if fault < 0.1 else Status.FAILED if fault < 0.2 else loss(configuration)
            history.finish(ended(request, result))
            if not isinstance(result, Status) and request.rung < 2 and outcomes.random() < 0.5:
                history.start(Request(request.number, request.rung + 1))


@given(num=st.integers(0, 150), root_seed=st.integers(0, 2**62), jump=st.integers(0, 150))
@settings(max_examples=20)
def test_independent_draws_do_not_depend_on_what_was_drawn_before(num: int, root_seed: int, jump: int) -> None:
    one, other = draws(RANDOM, root_seed=root_seed), draws(RANDOM, root_seed=root_seed)
    histories = {}
    for end in {num, jump}:
        histories[end] = History("minimize")
        for number in range(end):
            histories[end].add_configuration(Configuration(number=number, hyperparameters={}))
    other.draw(histories[jump])
    assert one.draw(histories[num]) == other.draw(histories[num])


@every_sampling
def test_the_root_seed_decides(sampling) -> None:
    first, second = (searched(draws(sampling, root_seed=seed), 6).configurations for seed in (3, 4))
    assert first == searched(draws(sampling), 6).configurations
    assert all(one != other for one, other in zip(first, second, strict=True))


@every_sampling
def test_the_order_of_a_space_does_not_change_what_is_drawn(sampling) -> None:
    turned = SearchSpace(distributions=dict(reversed(SPACE.distributions.items())))
    if sampling is GRID:
        sampling = grid(turned, num_points=4)
    one, other = searched(draws(sampling), 12), searched(draws(sampling, space=turned), 12)
    assert [dict(found) for found in one.configurations] == [dict(found) for found in other.configurations]


@every_learning
@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_learning_samplers_come_closer_than_chance(sampling, direction) -> None:
    num = 28 if sampling is GP else 70
    found = searched(draws(sampling, direction=direction), num).configurations[-8:]
    chance = searched(draws(RANDOM, direction=direction), num).configurations[-8:]
    assert median(map(loss, found)) < 0.4 * median(map(loss, chance))


@every_learning
def test_learning_samplers_keep_away_from_where_training_diverges(sampling) -> None:
    def outcome(configuration: Configuration) -> float | Status:
        # The best of what converges lies next to the worst of what does not.
        return Status.DIVERGED if configuration["decay"] > 0.5 else 1.0 - configuration["decay"]

    num = 28 if sampling is GP else 70
    found = searched(draws(sampling), num, outcome=outcome).configurations[-8:]
    assert sum(0.2 < configuration["decay"] <= 0.5 for configuration in found) >= 4


class Looking(optuna.samplers.RandomSampler):
    """Remembers what it was shown of earlier trials: their states and values."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.shown: list[tuple[str, float | None]] = []

    def sample_relative(self, study, trial, search_space):
        self.shown = [(one.state.name, one.value) for one in study.get_trials()[: trial.number]]
        return {}


def shown(learning: Learning, direction: str) -> list[tuple[str, float | None]]:
    """What a sampler sees of seven configurations that ended in every way, on three rungs whose scores differ."""
    sign = 1 if direction == "minimize" else -1
    sampler = Looking(0)
    made = draws(Sampling(name="looking", build=lambda seed: sampler, learning=learning), direction=direction)
    history = History(direction)
    ends = [[5.0, 3.0, 2.0], [6.0, 4.5], [7.0], [8.0, Status.DIVERGED], [Status.DIVERGED], [Status.FAILED], []]
    for number, results in enumerate(ends):
        history.add_configuration(made.draw(history))
        for rung, result in enumerate(results):
            scored = result if isinstance(result, Status) else sign * result
            history.finish(ended(Request(number, rung), scored))
    made.draw(history)
    return [(state, None if value is None else sign * value) for state, value in sampler.shown]


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_ranks_are_by_rung_then_score_with_the_diverged_last_of_their_rung(direction) -> None:
    seen = shown(Learning.RANKS, direction)
    assert [state for state, _ in seen] == ["COMPLETE"] * 5 + ["FAIL", "RUNNING"]
    values = [value for _, value in seen[:5]]
    assert sorted(range(5), key=values.__getitem__) == [0, 1, 3, 2, 4]


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_aligned_scores_are_without_what_climbing_changed(direction) -> None:
    seen = shown(Learning.ALIGNED, direction)
    assert [state for state, _ in seen] == ["COMPLETE"] * 5 + ["FAIL", "RUNNING"]
    # Rung 1 changes 5 -> 3 and 6 -> 4.5, in the median -1.75; rung 2 another 3 -> 2. The diverged are as bad as the worst.
    assert [value for _, value in seen[:5]] == pytest.approx([2.0 + 2.75, 4.5 + 1.75, 7.0, 7.0, 7.0])


def test_tpe_sees_what_optuna_would_be_told() -> None:
    """Twin: the mirror, kept up to date by changing its trials, against a study told through Optuna's own door."""
    made = draws(TPE)
    history = searched(made, 40)
    for request in list(history.pending):
        history.finish(ended(request, loss(history.configurations[request.number])))
    names = sorted(SPACE.distributions)
    distributions = {name: SPACE.distributions[name] for name in names}
    study = optuna.create_study(sampler=TPE.build(derive_seed(3, "configurations", 40) % 2**32))
    for configuration in history.configurations:
        found = [history.evaluation(configuration.number, rung) for rung in range(3)]
        study.add_trial(
            create_trial(
                state=TrialState.PRUNED,
                params={name: configuration[name] for name in names},
                distributions=distributions,
                intermediate_values={one.rung: one.score for one in found if one is not None},
            )
        )
    assert study.ask(distributions).params == dict(made.draw(history))


def test_qmc_is_the_sequence_that_optuna_draws() -> None:
    """Twin: Optuna draws its first trial at random, and from the second on follows the sequence."""
    distributions = {name: SPACE.distributions[name] for name in sorted(SPACE.distributions) if name != "fixed"}
    study = optuna.create_study(sampler=QMC.build(derive_seed(3, "sequence") % 2**32))
    ours = searched(draws(QMC), 12).configurations
    theirs = []
    for _ in range(13):
        trial = study.ask(distributions)
        study.tell(trial, 0.0)
        theirs.append(trial.params)
    assert [{name: found[name] for name in distributions} for found in ours] == theirs[1:]


def test_a_grid_is_drawn_once_each_in_a_shuffled_order() -> None:
    made = draws(GRID)
    assert GRID.num_points == 4 * 4 * 4 * 2
    history = searched(made, GRID.num_points)
    points = [tuple(found.values()) for found in history.configurations]
    assert sorted(points) == sorted(product(*SPACE.grid(4).values()))
    assert points != sorted(points)
    with pytest.raises(
        SearchSpaceError,
        match="the grid has 128 points and all of them are drawn: ask for at most 128 configurations",
    ):
        made.draw(history)


FEW = SearchSpace(
    distributions={
        "width": IntDistribution(1, 64, log=True),
        "kind": CategoricalDistribution([1, 2.5, "1", None]),
        "share": FloatDistribution(0.1, 0.3, step=0.1),
    }
)


def test_of_few_points_none_comes_twice_before_all_have_come() -> None:
    total = 64 * 4 * 3
    assert (FEW.num_points, RANDOM.num_different(FEW), TPE.num_different(FEW)) == (total, total, None)
    assert (SPACE.num_points, RANDOM.num_different(SPACE), GRID.num_different(SPACE)) == (
        None,
        None,
        GRID.num_points,
    )
    own = {"width": 5, "kind": "1", "share": 0.2}
    history = searched(draws(RANDOM, space=FEW, initial=[own]), total + 5, outcome=lambda one: one["share"])
    drawn = [repr(dict(one)) for one in history.configurations]
    assert drawn[0] == repr(own)
    assert len({*drawn[:total]}) == total
    assert {*drawn[total:]} < {*drawn[:total]}
    # From its middle as from its beginning.
    resumed = draws(RANDOM, space=FEW, initial=[own])
    assert resumed.draw(told_anew(history, 300)) == history.configurations[300]
    assert draws(RANDOM, space=FEW, initial=[own]).draw(told_anew(history, 300)) == history.configurations[300]
    assert resumed.draw(told_anew(history, 20)) == history.configurations[20]


@pytest.mark.parametrize(
    ("distribution", "number"),
    [
        (FloatDistribution(0.0, 1.0), None),
        (FloatDistribution(0.0, 0.3, step=0.1), 4),
        (IntDistribution(1, 10, step=3), 4),
        (IntDistribution(0, 10**7), None),
        (CategoricalDistribution(["one"]), 1),
    ],
)
def test_how_many_points_a_space_has(distribution: BaseDistribution, number: int | None) -> None:
    assert SearchSpace(distributions={"one": distribution}).num_points == number


@every_sampling
def test_initial_configurations_come_first_and_take_no_draw_away(sampling) -> None:
    default = {"rate": 0.01, "width": 8, "decay": 0.5, "kind": "two", "fixed": 7}
    history = searched(draws(sampling, initial=(default,)), 4)
    assert dict(history.configurations[0]) == default
    if sampling in (QMC, GRID):
        alone = searched(draws(sampling), 3)
        assert [dict(one) for one in history.configurations[1:]] == [dict(one) for one in alone.configurations]
    with pytest.raises(SearchSpaceError, match="width is 99, but the search space allows int from 1 to 16"):
        draws(sampling, initial=({**default, "width": 99},))


def test_cma_es_without_its_package_names_the_extra(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "cmaes", None)
    with pytest.raises(OptionError, match=r"needs the package cmaes.*pip install 'frostline\[cmaes\]'") as caught:
        draws(CMA_ES)
    assert "\n" not in str(caught.value)


def test_cma_es_needs_a_number_to_draw() -> None:
    choices = SearchSpace(distributions={"kind": CategoricalDistribution(["one", "two"])})
    with pytest.raises(SearchSpaceError, match="cma-es draws numbers, but the search space has choices alone"):
        draws(CMA_ES, space=choices)


@every_sampling
def test_a_space_of_one_hyperparameter_is_drawn(sampling) -> None:
    space = SearchSpace(distributions={"decay": FloatDistribution(0.0, 1.0), "width": IntDistribution(1, 20)})
    single = SearchSpace(distributions={"width": IntDistribution(1, 20)})
    if sampling is GRID:
        sampling = grid(single, num_points=20)
    if sampling is NEAR:
        sampling = near({"width": 9})
    made = draws(sampling, space=single)
    for configuration in searched(made, 14, outcome=lambda one: abs(one["width"] - 9)).configurations:
        single.validate(configuration)
    assert space != single


def test_optunas_own_study_is_not_announced() -> None:
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append
    logger = logging.getLogger("optuna")
    logger.addHandler(handler)
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.INFO)
    # The command line, which other tests run in this process, quiets these.
    quieted = {each: each.level for each in map(logging.getLogger, ("optuna.storages", "optuna.study"))}
    for each in quieted:
        each.setLevel(logging.NOTSET)
    try:
        for sampling in (RANDOM, QMC, TPE, CMA_ES, GRID):
            searched(draws(sampling), 12)
        assert records == []
        optuna.create_study()
        assert len(records) == 1
    finally:
        for each, level in quieted.items():
            each.setLevel(level)
        optuna.logging.set_verbosity(verbosity)
        logger.removeHandler(handler)


def test_half_of_what_is_drawn_is_near_what_is_believed_before_anything_is_known() -> None:
    history, made = History("minimize"), draws(NEAR)
    for _ in range(200):
        history.add_configuration(made.draw(history))
    drawn = history.configurations
    # Half of them near, where a choice is made anew every other time: 0.5 + 0.5 * 0.25.
    assert 0.55 < sum(each["kind"] == "two" for each in drawn) / 200 < 0.7
    # Of the range's scale 0.3, which half of them would hold to 0.3, and those near to 0.68 of a normal distribution.
    assert 0.42 < sum(10**-3.45 < each["rate"] < 10**-2.55 for each in drawn) / 200 < 0.58


@pytest.mark.parametrize(("distance", "share"), [(0.05, 0.7), (0.5, 1.0)])
def test_a_belief_that_is_right_helps_and_one_that_is_wrong_does_not_hurt(distance: float, share: float) -> None:
    space = SearchSpace(distributions={name: FloatDistribution(0.0, 1.0) for name in "abcd"})
    believed = dict.fromkeys("abcd", 0.25)

    def distance_from_best(configuration: Configuration) -> float:
        return sum((configuration[name] - 0.25 - distance) ** 2 for name in "abcd")

    def mean_best(sampling: Sampling) -> float:
        found = [
            searched(draws(sampling, space=space, root_seed=seed), 40, outcome=distance_from_best, seed=seed)
            for seed in range(12)
        ]
        return mean(min(map(distance_from_best, history.configurations)) for history in found)

    assert mean_best(near(believed)) < share * mean_best(RANDOM)


@given(position=st.floats(0, 1), name=st.sampled_from(["rate", "width", "decay"]))
def test_every_position_of_a_range_is_a_value_that_can_be_drawn(position: float, name: str) -> None:
    from frostline.search.proposals.belief import _position, _value_at

    for distribution in (
        SPACE.distributions[name],
        IntDistribution(1, 1000, log=True),
        FloatDistribution(0.0, 1.0, step=0.25),
        IntDistribution(2, 11, step=3),
    ):
        value = _value_at(distribution, position)
        assert holds(distribution, value)
        if isinstance(distribution, FloatDistribution) and distribution.step is None:
            assert _position(distribution, value) == pytest.approx(position, abs=1e-9)


@pytest.mark.parametrize("values", [{}, None, 3])
def test_a_belief_in_nothing_is_refused(values: object) -> None:
    with pytest.raises(OptionError, match="near takes values of hyperparameters"):
        near(values)


def test_a_belief_is_of_the_space() -> None:
    with pytest.raises(SearchSpaceError, match="has no 'momentum'"):
        draws(near({"momentum": 0.9}))
    with pytest.raises(SearchSpaceError, match="rate is 5"):
        draws(near({"rate": 5}))
