from __future__ import annotations

from dataclasses import replace

import pytest

from frostline.records import Configuration, Cost, Evaluation, Fidelity, Status
from frostline.run.installed_programs import frostline_program
from frostline.run.outcome.sentences import chance_lines, how_to_train, saving_lines, silence_lines
from frostline.run.outcome.summary import RungSummary, Summary
from frostline.search.budgets.budget import Budget
from frostline.search.history import History
from frostline.search.ladder import Ladder
from frostline.store.terms import BudgetTerms, TaskReference, Terms
from tests.run.outcome.test_summary import RUNGS, history_of

TERMS = Terms(
    task="mine",
    data="",
    space="",
    rungs=(Fidelity(trainable_layers=4, samples=100),),
    num_layers=4,
    search="full",
    is_sweep=False,
    sampler="random",
    seed=0,
    direction="minimize",
    sample_unit="samples",
    expected=(),
)
OF_IMAGES = replace(TERMS, rungs=RUNGS, sample_unit="images")
BUDGET = BudgetTerms(budget=Budget(full_trainings=6), num_own=0, most=None)
FULL = Fidelity(trainable_layers=4, samples=100)


def evaluation(number: int) -> Evaluation:
    cost = Cost(seconds=2.0, samples=100)
    return Evaluation(number=number, rung=0, fidelity=FULL, status=Status.FINISHED, score=1.0, cost=cost, curve=())


def summary(*, configurations: int, full_trainings: float) -> Summary:
    rung = RungSummary(
        rung=0,
        fidelity=FULL,
        expected=None,
        ended=1,
        diverged=0,
        failed=0,
        best=None,
        seconds=2 * full_trainings,
    )
    return Summary(rungs=(rung,), num_configurations=configurations, full_training_seconds=2.0)


def test_random_search_meets_the_answer_as_often_as_it_can_pay_for_a_candidate() -> None:
    [line] = chance_lines(summary(configurations=40, full_trainings=6.2), evaluation(3), None)
    assert "would have trained 6 of the 40 in full" in line
    assert "in about 15 of 100 cases (an estimate" in line
    # One's own is no candidate, and random search has trained it too.
    [line] = chance_lines(summary(configurations=41, full_trainings=6.2), evaluation(3), evaluation(0))
    assert "would have trained 5 of the 40 in full" in line
    assert "in about 12 of 100 cases" in line
    # Of three of one's own none is drawn, and the answer is none of them.
    told = summary(configurations=43, full_trainings=8.2)
    [line] = chance_lines(told, evaluation(3), evaluation(0), num_own=3)
    assert "would have trained 5 of the 40 in full" in line
    assert chance_lines(told, evaluation(2), evaluation(0), num_own=3) == []


@pytest.mark.parametrize(
    ("configurations", "full_trainings", "own"),
    [(6, 6.0, None), (40, 0.5, None), (40, 6.0, evaluation(3)), (40, 1.5, evaluation(0))],
)
def test_where_there_is_nothing_to_compare_nothing_is_said(
    configurations: int, full_trainings: float, own: Evaluation | None
) -> None:
    told = summary(configurations=configurations, full_trainings=full_trainings)
    assert chance_lines(told, evaluation(3), own) == []


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("digits-mlp", "train it in full: FROSTLINE train digits-mlp --configuration '{\"rate\": 0.1}'"),
        ("my_task.py:task", "train it in full: FROSTLINE train my_task.py:task --configuration '{\"rate\": 0.1}'"),
        ("mine", 'train it in full with the program that made the study: {"rate": 0.1}'),
        (None, 'train it in full with the program that made the study: {"rate": 0.1}'),
    ],
)
def test_only_a_task_that_the_command_line_knows_is_named_in_a_command(name: str | None, command: str) -> None:
    reference = None if name is None else TaskReference(name=name)
    best = Configuration(number=0, hyperparameters={"rate": 0.1})
    # Where frostline is not on PATH the command says where it is.
    assert how_to_train(replace(TERMS, reference=reference), best) == command.replace(
        "FROSTLINE", frostline_program()
    )


def test_a_rung_that_tells_nothing_is_named_with_what_became_of_it() -> None:
    def said(history: History) -> list[str]:
        return silence_lines(history, RUNGS, "images")

    scores = [(number, 0, 2.3 + number / 10_000, 1.0) for number in range(9)]
    told = "Rung 0 tells nothing: with 1 layer on 100 images the best of 9 is ahead of their median by less than a hundredth"
    told += " of what training all layers gains."
    # As long as nobody knows what training all layers gains, nothing can be said.
    assert said(history_of(*scores)) == []
    own = (9, 2, 0.9, 9.0)
    assert said(history_of(*scores, own)) == [told]
    assert said(history_of(*scores, own, (0, 1, 2.2, 1.0))) == [f"{told} Whom it promoted is chance."]
    assert said(history_of(*scores, own, (0, 2, 2.2, 1.0))) == [
        f"{told} So the search went on with 6 layers instead."
    ]
    assert said(history_of(*scores[:7], own)) == []
    assert said(history_of(*scores[:8], (8, 0, 2.2, 1.0), own)) == []


def test_layers_that_save_no_time_are_told_of_once_enough_was_trained() -> None:
    def said(few: float, whole: float, *, num_whole: int = 5) -> list[str]:
        scores = [(number, 0, 0.5, few) for number in range(9)]
        history = history_of(*scores, *((number, 2, 0.4, whole) for number in range(num_whole)))
        return saving_lines(history, OF_IMAGES)

    assert said(5.0, 10.0) == [
        "Few layers saved no time: a thousand images took 50 s with them, 50 s with all layers. Where most of a step is "
        "spent outside the model, a ladder of samples alone (samples-only) finds more."
    ]
    assert said(4.6, 10.0) != []
    assert said(4.4, 10.0) == []
    # Too few or too short trainings tell nothing.
    assert said(5.0, 10.0, num_whole=4) == []
    assert said(0.5, 1.0) == []
    assert said(5.0, 1.9) == []


def test_trainings_that_failed_tell_nothing_of_the_pace() -> None:
    scores = [(number, 0, Status.DIVERGED, 9.0) for number in range(9)]
    assert saving_lines(history_of(*scores, *((number, 2, 0.4, 3.0) for number in range(5))), OF_IMAGES) == []


def test_it_is_said_that_the_others_began_with_all_layers_since_few_saved_too_little() -> None:
    rungs = Ladder.sieve(num_layers=6, full_samples=1000).rungs

    def said(few: float, *, late: range, budget: BudgetTerms | None = BUDGET) -> list[str]:
        first = [(number, rung, 0.5, few if rung == 0 else 1.0) for number in range(2) for rung in (0, 1)]
        history = history_of(*first, *((number, 1, 0.4, 1.0) for number in late))
        return saving_lines(history, replace(OF_IMAGES, rungs=rungs, budget=budget))

    assert said(0.8, late=range(6, 30)) == [
        "Few layers saved 20 % of the 10 s that a thousand images take with all: too little to ask them first, and 24 "
        "configurations began with all."
    ]
    assert said(0.6, late=range(6, 30)) == []
    # The first, which tells what a full training takes, begins with all layers in any case.
    assert said(0.8, late=range(6, 7)) == []
    # In the brackets of another search some begin there too, whatever few layers save.
    assert said(0.8, late=range(6, 30), budget=None) == []


def test_who_climbed_over_a_rung_has_not_begun_with_all_layers() -> None:
    rungs = tuple(Fidelity(trainable_layers=layers, samples=100) for layers in (1, 3, 6))
    first = [(number, rung, 0.5, 0.9) for number in range(2) for rung in (0, 1, 2)]
    began_at_1 = [(number, rung, 0.5, 0.9) for number in range(2, 5) for rung in (1, 2)]
    began_with_all = [(number, 2, 0.5, 0.9) for number in range(5, 9)]
    history = history_of(*first, *began_at_1, *began_with_all, rungs=rungs)
    [line] = saving_lines(history, replace(OF_IMAGES, rungs=rungs, budget=BUDGET))
    assert line.endswith("too little to ask them first, and 4 configurations began with all.")
