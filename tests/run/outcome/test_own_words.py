"""What is said of one's own configuration, beside what the search found."""

from __future__ import annotations

from dataclasses import replace

import pytest

from frostline.records import Status
from frostline.run.outcome.own_words import own_lines
from frostline.run.outcome.summary import best_evaluation
from frostline.search.history import History
from tests.run.outcome.test_sentences import TERMS
from tests.run.outcome.test_summary import RUNGS, history_of


def said(history: History, *, is_over: bool = True) -> list[str]:
    best = best_evaluation(history)
    assert best is not None
    terms = replace(TERMS, rungs=RUNGS, sample_unit="images")
    return own_lines(history, terms, best, history.evaluation(0, 2), is_over=is_over)


def test_one_that_is_better_is_named_beside_ones_own() -> None:
    assert said(history_of((0, 2, 0.5, 1.0), (1, 2, 0.4, 1.0))) == [
        "Your own configuration, 0, trained in full, has a score of 0.5."
    ]


def test_who_was_ahead_and_could_not_be_paid_for_is_told_of() -> None:
    assert said(history_of((0, 2, 0.5, 1.0), (1, 1, 0.2, 1.0), (2, 1, 0.4, 1.0))) == [
        "Your own configuration, 0, is the only one that was trained in full; its score is 0.5. Configuration 1 had 0.2 "
        "with 6 layers after 100 images, which is better, and was not trained in full: a larger budget does that."
    ]


def test_where_nobody_was_trained_with_as_many_layers_nobody_was_compared() -> None:
    [line] = said(history_of((0, 2, 0.5, 1.0), (1, 0, 0.2, 1.0), (2, 0, 0.9, 1.0)))
    assert line == (
        "Your own configuration, 0, is the only one that was trained with as many layers, and so compared with nobody: a "
        "larger budget does that. Its score, trained in full, is 0.5."
    )
    [line] = said(history_of((0, 2, 0.5, 1.0)))
    assert line == (
        "Your own configuration, 0, is the only one that was trained, and so compared with nobody: a larger budget does "
        "that. Its score, trained in full, is 0.5."
    )


@pytest.mark.parametrize(
    "others",
    [
        [(1, 1, 0.6, 1.0)],
        # With few layers it is another model.
        [(1, 0, 0.2, 1.0), (1, 1, 0.6, 1.0)],
        # Somebody else was trained in full, and was worse.
        [(1, 1, 0.2, 1.0), (1, 2, 0.7, 1.0)],
        [(1, 1, 0.2, 1.0), (1, 2, Status.DIVERGED, 1.0)],
    ],
)
def test_otherwise_ones_own_is_to_be_kept(others: list[tuple[int, int, float | Status, float]]) -> None:
    [line] = said(history_of((0, 2, 0.5, 1.0), *others))
    assert line == "Your own configuration, 0, is the best: keep it. Its score, trained in full, is 0.5."


def test_nothing_is_advised_before_the_search_is_over() -> None:
    assert said(history_of((0, 2, 0.5, 1.0), (1, 1, 0.2, 1.0)), is_over=False) == [
        "Your own configuration, 0, is the best of those that have been trained in full so far: its score is 0.5."
    ]
    other = history_of((0, 2, 0.5, 1.0), (1, 2, 0.4, 1.0))
    assert said(other, is_over=False) == said(other)
