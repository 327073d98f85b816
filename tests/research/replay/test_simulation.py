from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frostline.errors import AuditError, LadderError, OptionError
from frostline.records import Fidelity
from frostline.research.replay.recorded import RecordedTask, goal_of
from frostline.research.replay.simulation import replay
from frostline.research.replay.synthetic import hartmann
from frostline.research.replay.synthetic_tables import synthetic_landscape
from frostline.research.replay.trace import Patience, Step, Trace
from frostline.research.replay.unused import Unused
from frostline.search.algorithms.halving import AsynchronousHalving, SuccessiveHalving
from frostline.search.algorithms.hyperband import Hyperband
from frostline.search.algorithms.sweep import FullFidelity, Sweep
from frostline.search.ladder import Ladder
from frostline.search.proposals.sampling import TPE
from tests.research.replay.tables import table

# Continued once, then from scratch, then continued again.
LADDER = Ladder.explicit([(1, 10), (1, 20), (2, 20), (2, 30)], num_layers=2, full_samples=30)
TWO_RUNGS = Ladder.explicit([(2, 10), (2, 30)], num_layers=2, full_samples=30)
SEARCHES = [SuccessiveHalving, Hyperband, AsynchronousHalving, Sweep, FullFidelity]
FULL = Fidelity(trainable_layers=2, samples=30)


def recorded(count: int, *, seed: int = 0, **more) -> RecordedTask:
    return RecordedTask(landscape=table(np.random.default_rng(seed).random((count, 2, 3)), **more))


def test_full_trainings_follow_one_another_and_workers_share_them() -> None:
    seconds = np.ones((4, 2, 3))
    seconds[:, 1, 2] = [1.0, 2.0, 4.0, 8.0]
    task = recorded(4, seconds=seconds)
    search = partial(FullFidelity, ladder=LADDER)
    order = [Unused(task.landscape, seed=5).take_next()]
    trace = replay(task, search, configurations=4, seed=5)
    assert [step.seconds for step in trace.steps] == list(np.cumsum([step.cost for step in trace.steps]))
    assert trace.seconds == trace.work == 15.0
    assert [trace.steps[0].index, trace.run_ends] == [order[0], (15.0,)]
    # By hand: two workers begin with the first two; who is free takes the next.
    costs = [step.cost for step in trace.steps]
    free = [0.0, 0.0]
    for cost in costs:
        free[free.index(min(free))] += cost
    shared = replay(task, search, configurations=4, seed=5, workers=2)
    assert (shared.seconds, shared.work) == (max(free), 15.0)
    assert [step.seconds for step in shared.steps] == sorted(step.seconds for step in shared.steps)


@pytest.mark.parametrize("sampling", [None, TPE])
def test_a_search_begins_with_ones_own(sampling) -> None:
    task = replace(recorded(12), own=7)
    trace = replay(task, partial(FullFidelity, ladder=LADDER), configurations=12, seed=5, sampling=sampling)
    assert trace.steps[0].index == 7
    assert sorted(step.index for step in trace.steps) == list(range(12))
    with pytest.raises(AuditError, match="own is 12, but the table has configurations 0 to 11"):
        replace(task, own=12)


def test_halving_climbs_by_score_and_pays_for_what_it_trains() -> None:
    scores = np.empty((9, 2, 3))
    # Lower numbers are better on the first rung, higher ones from there on.
    scores[:] = -np.arange(9.0)[:, None, None]
    scores[:, 0, 0] = np.arange(9)
    ladder = Ladder.explicit([(1, 10), (1, 20), (2, 30)], num_layers=2, full_samples=30)
    trace = replay(
        RecordedTask(landscape=table(scores)), partial(SuccessiveHalving, ladder=ladder), configurations=9, seed=0
    )
    climbed = [sorted(step.index for step in trace.steps if step.fidelity == rung) for rung in ladder.rungs]
    assert climbed == [list(range(9)), [0, 1, 2], [2]]
    # 9 × 1 layer × 10 samples; 3 × 10 further samples; 2 layers × 30 samples from scratch.
    assert trace.work == trace.seconds == 9 * 10 + 3 * 10 + 60
    assert [step.index for step in trace.incumbents()] == [2]


def test_what_diverged_is_not_promoted_and_is_no_incumbent() -> None:
    scores = np.tile(np.arange(4.0)[:, None, None], (1, 2, 3))
    scores[0] = np.nan
    scores[1, 1, 2] = np.nan
    task = RecordedTask(landscape=table(scores))
    trace = replay(
        task, partial(SuccessiveHalving, ladder=TWO_RUNGS, reduction_factor=2), configurations=4, seed=1
    )
    assert sorted(step.index for step in trace.steps if step.fidelity == FULL) == [1, 2]
    assert [(step.index, step.loss) for step in trace.incumbents()] == [(2, 2.0)]


def test_scores_that_rise_are_climbed_upwards() -> None:
    task = RecordedTask(landscape=table(np.arange(9.0), direction="maximize"))
    trace = replay(task, partial(SuccessiveHalving, ladder=TWO_RUNGS), configurations=9, seed=0)
    assert {step.index for step in trace.steps if step.fidelity == FULL} == {6, 7, 8}
    assert trace.incumbents()[-1].loss == -8.0


@pytest.mark.parametrize("search", SEARCHES)
@settings(max_examples=25)
@given(workers=st.integers(1, 9), seed=st.integers(0, 99), data=st.data())
def test_a_clock_runs_forwards_and_no_worker_does_two_things_at_once(search, workers, seed, data) -> None:
    scores = np.random.default_rng(seed).random((55, 2, 3))
    scores[np.random.default_rng(seed).random(scores.shape) < data.draw(st.sampled_from([0.0, 0.3]))] = np.nan
    seconds = np.cumsum(np.random.default_rng(seed + 1).random((55, 2, 3)) + 0.01, axis=2)
    task = RecordedTask(landscape=table(scores, seconds=seconds))
    run = partial(replay, task, partial(search, ladder=LADDER), configurations=50, seed=seed, workers=workers)
    trace = run()
    assert trace == run()
    assert all(one.seconds <= other.seconds for one, other in pairwise(trace.steps))
    begins = sorted((step.seconds - step.cost, step.seconds) for step in trace.steps)
    for begin, _ in begins:
        assert sum(one <= begin + 1e-9 and end > begin + 1e-9 for one, end in begins) <= workers
    evaluated = [(step.index, step.fidelity) for step in trace.steps]
    assert len(set(evaluated)) == len(evaluated)
    assert trace.work / workers - 1e-9 <= trace.seconds <= trace.work + 1e-9


@pytest.mark.parametrize("search", [SuccessiveHalving, Hyperband, Sweep, FullFidelity])
def test_synchronous_searches_train_the_same_with_any_number_of_workers(search) -> None:
    task = recorded(65)
    trained = [
        {
            (step.index, step.fidelity)
            for step in replay(task, build, configurations=65, seed=2, workers=workers).steps
        }
        for build in [partial(search, ladder=LADDER)]
        for workers in (1, 4, 65)
    ]
    assert trained[0] == trained[1] == trained[2]


def test_a_configuration_of_a_higher_bracket_starts_from_scratch() -> None:
    ladder = Ladder.explicit([(2, 10), (2, 30)], num_layers=2, full_samples=30)
    trace = replay(recorded(8), partial(Hyperband, ladder=ladder), configurations=8, seed=0)
    # 6 × 20 s, of which 2 climb for the 40 s that are missing; 2 of the second bracket take the whole 60 s.
    costs = sorted(step.cost for step in trace.steps if step.fidelity == FULL)
    sizes = Hyperband(ladder=ladder, configurations=8).configurations_per_bracket()
    assert costs == [40.0] * (sizes[0] // 3) + [60.0] * sizes[1]


def test_a_search_is_restarted_with_fresh_configurations_until_the_goal_is_met() -> None:
    task = recorded(40)
    goal = goal_of(task.landscape)
    for seed in range(20):
        trace = replay(
            task,
            partial(SuccessiveHalving, ladder=TWO_RUNGS),
            configurations=9,
            seed=seed,
            patience=Patience(goal=goal),
        )
        begun = [step.index for step in trace.steps if step.fidelity == TWO_RUNGS.rungs[0]]
        assert len(set(begun)) == len(begun)
        assert [
            max(step.seconds for step in trace.steps if step.run == run) for run in range(len(trace.run_ends))
        ] == list(trace.run_ends)
        found_in = [step.run for step in trace.steps if step.fidelity == FULL and goal.met[step.index]]
        if found_in:
            assert math.isfinite(trace.time_to_goal(goal))
            assert found_in[0] == len(trace.run_ends) - 1
        else:
            assert trace.time_to_goal(goal) == math.inf
            # 4 × 9 climb; the 4 that are left are enough for two rungs too.
            assert {step.index for step in trace.steps} == set(range(40))


def test_what_is_left_over_is_trained_in_full() -> None:
    task = recorded(11)
    best_last = Unused(task.landscape, seed=0)
    order = [best_last.take_next() for _ in range(11)]
    scores = np.ones((11, 2, 3))
    scores[order[-1]] = 0.0
    task = RecordedTask(landscape=table(scores))
    goal = goal_of(task.landscape)
    trace = replay(
        task, partial(SuccessiveHalving, ladder=TWO_RUNGS), configurations=9, seed=0, patience=Patience(goal=goal)
    )
    assert [(step.index, step.fidelity, step.cost) for step in trace.steps if step.run == 1] == [
        (order[-2], FULL, 60.0),
        (order[-1], FULL, 60.0),
    ]
    assert trace.time_to_goal(goal) == trace.seconds


def test_patience_asks_for_runs_beyond_the_goal_and_none_without_it() -> None:
    task = recorded(60)
    search = partial(SuccessiveHalving, ladder=TWO_RUNGS)
    everything_is_good = goal_of(task.landscape, share=1.0)
    once = replay(task, search, configurations=9, seed=0)
    assert len(once.run_ends) == 1
    for seconds, runs in ((0.0, 1), (once.seconds, 1), (once.seconds + 1, 2)):
        patience = Patience(goal=everything_is_good, seconds=seconds)
        trace = replay(task, search, configurations=9, seed=0, patience=patience)
        assert len(trace.run_ends) == runs
        assert trace.steps[: len(once.steps)] == once.steps


def test_too_few_configurations_or_workers_or_a_rung_not_recorded_are_refused() -> None:
    with pytest.raises(LadderError, match="2 configurations cannot climb 2 rungs"):
        replay(recorded(2), partial(SuccessiveHalving, ladder=TWO_RUNGS), configurations=9, seed=0)
    with pytest.raises(OptionError, match="workers is 0"):
        replay(recorded(9), partial(SuccessiveHalving, ladder=TWO_RUNGS), configurations=9, seed=0, workers=0)
    other = Ladder.explicit([(1, 7), (2, 30)], num_layers=2, full_samples=30)
    with pytest.raises(LadderError, match="7 samples was not recorded"):
        replay(recorded(9), partial(SuccessiveHalving, ladder=other), configurations=9, seed=0)


def step(seconds: float, loss: float, *, index: int = 0, fidelity: Fidelity = FULL) -> Step:
    return Step(seconds=seconds, run=0, index=index, fidelity=fidelity, loss=loss, cost=1.0)


def test_the_answer_over_time() -> None:
    cheap = Fidelity(trainable_layers=1, samples=30)
    steps = (
        step(1.0, 0.1, fidelity=cheap),
        step(2.0, math.inf),
        step(3.0, 5.0, index=1),
        step(4.0, 6.0),
        step(5.0, 4.0, index=2),
    )
    trace = Trace(steps=steps, full=FULL, run_ends=(5.0,))
    assert trace.incumbents() == (steps[2], steps[4])
    assert [trace.incumbent_at(seconds) for seconds in (2.9, 3.0, 4.9, 99.0)] == [
        None,
        steps[2],
        steps[2],
        steps[4],
    ]
    assert [trace.time_to(target) for target in (6.0, 5.0, 4.5, 3.0)] == [3.0, 3.0, 5.0, math.inf]
    # The second is better in the mean over seeds, and the answer all the same is what scored best.
    goal = goal_of(table([9.0, 3.0, 4.0]))
    assert trace.time_to_goal(goal) == 3.0
    assert trace.time_to_goal(goal_of(table([3.0, 9.0, 9.0]))) == math.inf


def test_a_sampler_that_learns_finds_the_best_sooner_than_chance() -> None:
    landscape = synthetic_landscape(hartmann(3, bias=0.0, noise=0.0), configurations=150, seed=0)
    task = RecordedTask(landscape=landscape)
    goal = goal_of(landscape, share=0.02)
    ladder = Ladder.explicit([(8, 100), (8, 1000)], num_layers=8, full_samples=1000)

    def median_time(sampling) -> float:
        traces = [
            replay(
                task,
                partial(FullFidelity, ladder=ladder),
                configurations=100,
                seed=seed,
                sampling=sampling,
                patience=Patience(goal=goal),
            )
            for seed in range(5)
        ]
        for trace in traces:
            assert len({step.index for step in trace.steps}) == len(trace.steps)
        return float(np.median([trace.time_to_goal(goal) for trace in traces]))

    assert median_time(TPE) < 0.75 * median_time(None)


def test_a_sampler_sees_the_recorded_configurations_and_their_scores() -> None:
    landscape = synthetic_landscape(hartmann(3), configurations=60, seed=0)
    orders = []
    for shown in (landscape, replace(landscape, scores=-landscape.scores)):
        ladder = Ladder.explicit([(8, 100), (8, 1000)], num_layers=8, full_samples=1000)
        search = partial(FullFidelity, ladder=ladder)
        trace = replay(RecordedTask(landscape=shown), search, configurations=30, seed=0, sampling=TPE)
        orders.append([step.index for step in trace.steps])
    # The first ten are drawn at random; from then on what was good elsewhere is looked for there.
    assert orders[0][:10] == orders[1][:10]
    means = [landscape.full_losses[order[10:]].mean() for order in orders]
    assert means[0] < landscape.full_losses.mean() < means[1]
