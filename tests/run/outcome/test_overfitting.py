from __future__ import annotations

from dataclasses import replace

import pytest

from frostline.records import Configuration, CurvePoint, Direction, Status
from frostline.run.outcome.overfitting import overfitting_lines
from frostline.search.history import History
from frostline.store.terms import TrainingTerms
from tests.run.outcome.test_sentences import TERMS
from tests.run.outcome.test_summary import RUNGS, history_of

SCOUTS = [(number, 0, 0.5 + number / 10, 1.0) for number in range(6)]
"""Their best is ahead of their median by 0.25: what is better by more than a fortieth is told."""


def said(history: History, *, direction: Direction = "minimize") -> list[str]:
    return overfitting_lines(history, replace(TERMS, rungs=RUNGS, direction=direction, sample_unit="images"))


def test_who_was_better_before_the_end_than_anybody_is_in_full_is_told_of() -> None:
    assert said(history_of(*SCOUTS, (0, 1, 0.3, 1.0), (0, 2, 0.4, 1.0), (1, 2, 0.35, 1.0))) == [
        "Full trainings are too long here: configuration 0 had 0.3 with 6 layers after 100 images, better than any has in "
        "full (0.35). Search again with a shorter full training."
    ]


def test_so_is_one_that_was_better_with_few_layers() -> None:
    [line] = said(history_of(*SCOUTS, (0, 2, 0.9, 1.0)))
    assert "configuration 0 had 0.5 with 1 layer after 100 images" in line
    assert line.endswith("Search again with a shorter full training, or freeze the first layers for good.")


def test_a_task_may_be_judged_by_the_best_of_its_validations() -> None:
    terms = replace(
        TERMS, rungs=RUNGS, training=TrainingTerms(horizon="full", precision="float32", num_validations=4)
    )
    [line] = overfitting_lines(history_of(*SCOUTS, (0, 1, 0.3, 1.0), (0, 2, 0.4, 1.0)), terms)
    assert line.endswith("a shorter full training, or judge each by the best of its validations (keep_best).")


@pytest.mark.parametrize(
    "ended",
    [
        [],
        SCOUTS,
        # Who is better on few samples than one's own in full is only the better of the two.
        [*SCOUTS, (6, 2, 0.9, 1.0)],
        [*SCOUTS, (0, 1, 0.3, 1.0), (0, 2, 0.32, 1.0)],
        # A tenth is ahead, of a poor training; another is better in full.
        [*SCOUTS, (0, 1, 0.3, 1.0), (0, 2, 0.9, 1.0), (1, 2, 0.29, 1.0)],
        # One that diverged did so for another reason.
        [*SCOUTS, (0, 1, 0.3, 1.0), (0, 2, Status.DIVERGED, 1.0), (1, 2, 0.45, 1.0)],
        # Of four nobody knows how far apart configurations are.
        [*SCOUTS[:4], (0, 1, 0.3, 1.0), (0, 2, 0.4, 1.0)],
    ],
)
def test_otherwise_nothing_is_said(ended: list[tuple[int, int, float | Status, float]]) -> None:
    assert said(history_of(*ended)) == []


def test_validations_on_the_way_of_a_full_training_count_and_higher_may_be_better() -> None:
    history = History("maximize")
    at_the_end = history_of(*SCOUTS, (0, 2, 0.8, 1.0))
    for number in range(6):
        history.add_configuration(Configuration(number=number, hyperparameters={"rate": 0.1}))
    *scouts, full = at_the_end.evaluations()
    for evaluation in scouts:
        assert evaluation.score is not None
        history.finish(replace(evaluation, score=1.0 - evaluation.score))
    curve = tuple(CurvePoint(samples, score) for samples, score in [(50, 0.7), (150, 0.9), (200, 0.8)])
    history.finish(replace(full, curve=curve))
    [line] = said(history, direction="maximize")
    assert "configuration 0 had 0.9 with 6 layers after 150 images, better than any has in full (0.8)" in line
