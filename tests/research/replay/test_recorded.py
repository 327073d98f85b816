from __future__ import annotations

import numpy as np
import pytest

from frostline.errors import AuditError, LadderError
from frostline.records import Configuration, Fidelity, Job, Status
from frostline.research.replay.recorded import RecordedTask, goal_of, with_typical_seconds
from frostline.search.ladder import Ladder
from tests.research.replay.tables import table

RANDOM = np.random.default_rng(0)
SCORES = RANDOM.random((4, 2, 3))


def job(layers: int, samples: int, *below: tuple[int, int]) -> Job:
    return Job(
        configuration=Configuration(number=7, hyperparameters={}),
        rung=1,
        fidelity=Fidelity(trainable_layers=layers, samples=samples),
        continued_from=tuple(Fidelity(trainable_layers=z, samples=s) for z, s in below),
    )


def test_an_evaluation_is_what_was_recorded() -> None:
    evaluation = RecordedTask(landscape=table(SCORES)).evaluate(job(2, 20), 3)
    assert (evaluation.number, evaluation.rung, evaluation.score) == (7, 1, SCORES[3, 1, 1])
    assert (evaluation.status, evaluation.fidelity) == (Status.FINISHED, job(2, 20).fidelity)
    assert (evaluation.cost.seconds, evaluation.cost.samples) == (40.0, 20)


@pytest.mark.parametrize(("horizon", "seconds", "samples"), [("full", 20.0, 10), ("rung", 60.0, 30)])
def test_a_continued_training_costs_what_it_adds_where_trainings_were_nested(horizon, seconds, samples) -> None:
    task = RecordedTask(landscape=table(SCORES, horizon=horizon))
    cost = task.evaluate(job(2, 30, (2, 10), (2, 20)), 0).cost
    assert (cost.seconds, cost.samples) == (seconds, samples)


def test_what_diverged_has_diverged_and_cost_what_it_cost() -> None:
    scores = SCORES.copy()
    scores[1, 0, 2] = np.nan
    evaluation = RecordedTask(landscape=table(scores)).evaluate(job(1, 30), 1)
    assert (evaluation.status, evaluation.score, evaluation.cost.seconds) == (Status.DIVERGED, None, 30.0)


@pytest.mark.parametrize("unknown", [np.nan, 0.0, -1.0, np.inf])
def test_a_table_without_seconds_cannot_be_timed(unknown: float) -> None:
    seconds = np.ones((4, 2, 3))
    seconds[2, 1, 0] = unknown
    with pytest.raises(AuditError, match="1 of 24 cells of by hand have no seconds above 0"):
        RecordedTask(landscape=table(SCORES, seconds=seconds))


def test_a_table_of_nothing_is_refused() -> None:
    with pytest.raises(AuditError, match="without configurations"):
        RecordedTask(landscape=table(SCORES).of([]))


def test_rungs_that_were_not_recorded_are_refused_with_those_that_were() -> None:
    task = RecordedTask(landscape=table(SCORES))
    task.check(Ladder.explicit([(1, 10), (2, 30)], num_layers=2, full_samples=30))
    with pytest.raises(
        LadderError, match=r"1 layers and 15 samples was not recorded.*\[1, 2\] and samples \[10, 20, 30\]"
    ):
        task.check(Ladder.explicit([(1, 15), (2, 30)], num_layers=2, full_samples=30))


def test_a_ladder_is_moved_to_the_nearest_cells() -> None:
    task = RecordedTask(landscape=table(np.zeros((2, 3, 4)), layers=(1, 4, 10), samples=(100, 200, 400, 1000)))
    ladder = Ladder.explicit([(2, 111), (3, 299), (4, 450), (10, 1000)], num_layers=10, full_samples=1000)
    # 2 is as far from 1 as from 4 by the logarithm, and the lower one is taken; 299 is nearer to 400 than to 200, so two
    # rungs fall on (4, 400).
    assert [(rung.trainable_layers, rung.samples) for rung in task.snapped(ladder).rungs] == [
        (1, 100),
        (4, 400),
        (10, 1000),
    ]
    with pytest.raises(LadderError, match="must have at least 2"):
        task.snapped(Ladder.explicit([(9, 900), (10, 1000)], num_layers=10, full_samples=1000))


def test_the_goal_is_the_best_or_what_is_near_or_among_the_best() -> None:
    landscape = table([5.0, 1.0, 1.4, np.nan, 3.0])
    assert goal_of(landscape).met.tolist() == [False, True, False, False, False]
    assert goal_of(landscape, tolerance=0.5).met.tolist() == [False, True, True, False, False]
    assert goal_of(landscape, share=0.6).met.tolist() == [False, True, True, False, True]
    assert goal_of(landscape, tolerance=0.5, share=0.2).target == 1.5
    assert goal_of(landscape).best == 1.0


def test_qualities_are_means_over_seeds_and_scores_that_rise_are_turned() -> None:
    landscape = table([1.0, 2.0, 3.0], repeats=[[4.0, 3.0, np.nan], [4.0, np.nan, np.nan]], direction="maximize")
    goal = goal_of(landscape)
    assert goal.qualities.tolist() == [-3.0, -2.5, -3.0]
    # The third was trained once: it is good if it is as good as the best of those that were repeated.
    assert goal.best == -3.0
    assert goal.met.tolist() == [True, False, True]
    assert goal_of(table([0.0, 2.0, 3.0], repeats=[[np.nan, 4.0, 4.0]])).best == 3.0


def test_a_seed_that_diverged_is_infinitely_bad() -> None:
    goal = goal_of(table([1.0, 2.0], repeats=[[np.inf, 2.0]]))
    assert goal.qualities.tolist() == [np.inf, 2.0]


@pytest.mark.parametrize(
    ("scores", "wanted", "words"),
    [
        ([1.0, 2.0], {"tolerance": -1.0}, "tolerance is -1.0"),
        ([1.0, 2.0], {"tolerance": np.inf}, "tolerance is inf"),
        ([1.0, 2.0], {"share": 1.5}, "share is 1.5"),
        ([np.nan, np.nan], {}, "every full training of by hand diverged"),
    ],
)
def test_goals_that_are_none_are_refused(scores, wanted, words: str) -> None:
    with pytest.raises(AuditError, match=words):
        goal_of(table(scores), **wanted)


def test_typical_seconds_leave_out_what_others_used_of_the_machine() -> None:
    seconds = np.broadcast_to([[[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]]], (5, 2, 3)).copy()
    seconds[4] *= 10
    seconds[3, 1] *= 3
    scores = np.zeros((5, 2, 3))
    scores[0, 1] = np.nan
    seconds[0, 1] = [0.5, 0.5, 0.5]
    typical = with_typical_seconds(table(scores, seconds=seconds)).seconds
    assert typical[1:].tolist() == [[[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]]] * 4
    # What diverged keeps the seconds after which it had.
    assert typical[0].tolist() == [[1.0, 2.0, 3.0], [0.5, 0.5, 0.5]]
    everything = table(np.full((2, 2, 3), np.nan))
    assert np.array_equal(with_typical_seconds(everything).seconds, everything.seconds)
    with pytest.raises(AuditError, match="level is 2"):
        with_typical_seconds(everything, level=2)
