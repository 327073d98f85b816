"""The figures of a search, by hand."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from frostline.records import Configuration, Cost, Evaluation, Fidelity, Status
from frostline.run.outcome.summary import best_evaluation, summarise
from frostline.search.history import History

# Six layers: 1 of them on 100 samples, then all on 100, and on 200, which goes on from the rung before.
RUNGS = tuple(
    Fidelity(trainable_layers=layers, samples=samples) for layers, samples in [(1, 100), (6, 100), (6, 200)]
)
EXPECTED = (4, 3, 2)


def history_of(
    *ended: tuple[int, int, float | Status, float],
    fixed_seconds: float = 0.0,
    rungs: Sequence[Fidelity] = RUNGS,
) -> History:
    """Return a history of evaluations, each a number, a rung, a score or how it ended, and its seconds."""
    history = History("minimize")
    for number in range(1 + max((each[0] for each in ended), default=-1)):
        history.add_configuration(Configuration(number=number, hyperparameters={"rate": 0.1}))
    for number, rung, outcome, seconds in ended:
        finished = not isinstance(outcome, Status)
        history.finish(
            Evaluation(
                number=number,
                rung=rung,
                fidelity=rungs[rung],
                status=Status.FINISHED if finished else outcome,
                score=outcome if finished else None,
                cost=Cost(seconds=seconds, samples=rungs[rung].samples, fixed_seconds=fixed_seconds),
                reason="" if finished else "it did not work",
            )
        )
    return history


def test_every_rung_counts_what_ended_there_and_names_its_best() -> None:
    history = history_of(
        (0, 0, 0.5, 1.0),
        (1, 0, 0.4, 2.0),
        (2, 0, Status.DIVERGED, 0.5),
        (3, 0, Status.FAILED, 0.5),
        (1, 1, 0.3, 6.0),
    )
    summary = summarise(history, RUNGS, EXPECTED)
    assert [(rung.ended, rung.diverged, rung.failed) for rung in summary.rungs] == [
        (4, 1, 1),
        (1, 0, 0),
        (0, 0, 0),
    ]
    assert [rung.seconds for rung in summary.rungs] == [4.0, 6.0, 0.0]
    assert [rung.best.number if rung.best else None for rung in summary.rungs] == [1, 1, None]
    assert [rung.seconds_each for rung in summary.rungs] == [1.0, 6.0, None]
    assert summary.num_configurations == 4
    assert summary.seconds == 10.0
    assert summary.full_trainings is None  # none has ended yet


def test_what_was_drawn_and_never_evaluated_is_no_candidate() -> None:
    history = history_of((0, 0, 0.5, 1.0), (1, 0, Status.FAILED, 2.0), (1, 1, 0.4, 2.0))
    history.add_configuration(Configuration(number=2, hyperparameters={"rate": 0.1}))
    assert summarise(history, RUNGS, EXPECTED).num_configurations == 2


def test_a_full_training_costs_all_the_rungs_that_it_went_on_from() -> None:
    history = history_of(
        (0, 0, 0.5, 1.0), (0, 1, 0.4, 6.0), (0, 2, 0.3, 4.0), (1, 1, 0.45, 8.0), (1, 2, 0.35, 6.0)
    )
    summary = summarise(history, RUNGS, EXPECTED)
    # The first rung trained another number of layers: nothing went on from it.
    assert summary.full_training_seconds == (6 + 4 + 8 + 6) / 2
    assert summary.full_trainings == pytest.approx(25 / 12)


def test_what_lies_around_the_steps_is_counted_once_in_a_full_training() -> None:
    history = history_of((0, 1, 0.4, 6.0), (0, 2, 0.3, 4.0), fixed_seconds=1.5)
    assert summarise(history, RUNGS, EXPECTED).full_training_seconds == 6 + 4 - 1.5


def test_one_that_was_trained_in_full_at_once_tells_what_that_takes_and_not_who_climbed() -> None:
    history = history_of((0, 2, 0.4, 9.0), (1, 0, 0.5, 1.0), (1, 1, 0.45, 20.0), (1, 2, 0.3, 15.0))
    summary = summarise(history, RUNGS, EXPECTED)
    assert summary.full_training_seconds == 9
    assert summary.full_trainings == 5


def test_what_is_left_is_reckoned_from_the_rung_itself_or_from_the_highest_one_seen() -> None:
    summary = summarise(history_of((0, 0, 0.5, 2.0), (1, 0, 0.4, 4.0)), RUNGS, EXPECTED)
    assert summary.seconds_left_at(summary.rungs[0]) == 2 * 3.0
    # A step that trains z of 6 layers takes 6 + 2z passes: 8 with one, 18 with six.
    assert summary.seconds_left_at(summary.rungs[1]) == pytest.approx(3 * 3.0 * 18 / 8)
    assert summary.seconds_left_at(summary.rungs[2]) == pytest.approx(2 * 3.0 * 18 / 8 * 2)
    assert summary.seconds_left == pytest.approx(6 + 20.25 + 27)


def test_nothing_is_left_where_more_ended_than_expected_and_nothing_is_known_at_first() -> None:
    assert summarise(history_of(), RUNGS, EXPECTED).seconds_left is None
    overfull = summarise(history_of((0, 0, 0.5, 2.0), (1, 0, 0.4, 4.0)), RUNGS, (1, 0, 0))
    assert overfull.seconds_left == 0.0


def test_the_best_is_that_of_the_highest_rung_with_a_score() -> None:
    assert best_evaluation(history_of()) is None
    failed = history_of((0, 0, 0.1, 1.0), (1, 0, 0.4, 1.0), (1, 1, 0.3, 1.0), (1, 2, Status.FAILED, 1.0))
    best = best_evaluation(failed)
    assert best is not None
    assert (best.number, best.rung, best.score) == (1, 1, 0.3)
