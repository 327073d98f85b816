"""Whether a study tells that its search is over, and what is spent of its budget until then."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import FloatDistribution

from frostline.records import Configuration, Cost, Evaluation, Fidelity, Status
from frostline.report.searches.search_page import search_page
from frostline.report.study_record import StudyRecord, read_record
from frostline.run.outcome.ending import climb_of, has_ended, no_score_words, spent_words, summary_of
from frostline.run.plan import SearchPlan
from frostline.run.tuning import search_function
from frostline.search.budgets.budget import Budget
from frostline.search.budgets.budgeted import BudgetedHalving
from frostline.search.history import History
from frostline.search.ladder import Ladder
from frostline.search.spaces.space import SearchSpace
from frostline.store.reading import read_study
from frostline.store.terms import BudgetTerms, Terms
from tests.report.cases import search_record
from tests.run.outcome.test_sentences import TERMS
from tests.run.outcome.test_summary import RUNGS, history_of

SPACE = SearchSpace(distributions={"rate": FloatDistribution(0.0, 1.0)})


def score(configuration: Configuration, fidelity: Fidelity) -> float:
    rate = configuration["rate"]
    assert isinstance(rate, float)
    return 0.1 + rate


def searched(folder: Path, **fields: Any) -> StudyRecord:
    ladder = Ladder.sieve(num_layers=7, full_samples=1000)
    place = f"sqlite:///{folder}/studies.db"
    search_function(score, SPACE, ladder, study="s", storage=place, plan=SearchPlan(**fields))
    return read_record(place, "s")


def sized(budget: Budget) -> Terms:
    """The terms of a search within a budget whose configuration 0 is one's own."""
    ladder = Ladder.sieve(num_layers=7, full_samples=1000)
    made = BudgetedHalving.usual(ladder, budget, num_initial=1)
    return replace(
        search_record().terms,
        rungs=tuple(ladder.rungs),
        num_layers=7,
        search=made.fingerprint,
        expected=(),
        has_own=True,
        budget=BudgetTerms(budget=budget, num_own=1, most=None),
    )


def climbed(terms: Terms, *, most: int = 1000) -> History:
    """What a search within the budget of ``terms`` comes to, killed after so many; a full training takes 10 s."""
    climb, history = climb_of(terms), History("minimize")
    assert climb is not None
    while history.num_evaluations < most and (requests := climb.next_requests(history, capacity=1)):
        number, rung = requests[0].number, requests[0].rung
        if number == len(history.configurations):
            history.add_configuration(Configuration(number=number, hyperparameters={"rate": number / 100}))
        fidelity = terms.rungs[rung]
        layers = (7 + 2 * fidelity.trainable_layers) / 21
        history.finish(
            Evaluation(
                number=number,
                rung=rung,
                fidelity=fidelity,
                status=Status.FINISHED,
                score=1.0 + number / 100,
                cost=Cost(seconds=layers * fidelity.samples / 100, samples=fidelity.samples),
            )
        )
    # The next one had been drawn, and was under way.
    if most < 1000:
        number = len(history.configurations)
        history.add_configuration(Configuration(number=number, hyperparameters={"rate": number / 100}))
    return history


def test_a_study_keeps_how_its_search_is_sized(tmp_path: Path) -> None:
    record = searched(tmp_path, budget=5, initial={"rate": 0.0})
    climb = climb_of(record.terms)
    assert climb is not None
    assert (climb.budget.full_trainings, climb.num_own, climb.fingerprint) == (5, 1, record.terms.search)
    assert Terms.parse(record.terms.record()) == record.terms
    assert Terms.parse(record.terms.record()).budget == record.terms.budget
    assert has_ended(record.history, record.terms)
    # A larger budget is that of the study from then on.
    again = searched(tmp_path, budget=7, initial={"rate": 0.0})
    assert again.terms.budget is not None
    assert again.terms.budget.budget.full_trainings == 7
    assert has_ended(again.history, again.terms)
    assert climb_of(replace(record.terms, search="another")) is None


def test_others_say_how_much_they_expect_or_nothing() -> None:
    history = history_of((0, 0, 0.5, 1.0))
    terms = replace(TERMS, rungs=RUNGS)
    assert has_ended(history, terms) is None
    assert has_ended(history, replace(terms, expected=(2, 0, 0))) is False
    assert has_ended(history, replace(terms, expected=(1, 0, 0))) is True


def decided(*ended: Any) -> History:
    history = history_of(*ended)
    for one in history.configurations:
        history.eliminate(one.number)
    return history


def test_rungs_that_too_few_are_left_for_are_not_waited_for() -> None:
    failed = [(number, 0, Status.FAILED, 1.0) for number in range(2, 9)]
    trained = [(0, 0, 0.5, 1.0), (1, 0, 0.6, 1.0), *failed, (0, 1, 0.4, 1.0)]
    terms = replace(TERMS, rungs=RUNGS, expected=(9, 3, 1), is_sweep=False)
    assert has_ended(decided(*trained), terms) is False
    assert has_ended(decided(*trained, (1, 1, 0.5, 1.0)), terms) is False
    all_of_them = (*trained, (1, 1, 0.5, 1.0), (0, 2, 0.3, 1.0))
    assert has_ended(decided(*all_of_them), terms) is True
    assert has_ended(decided(*all_of_them), replace(terms, is_sweep=True)) is False
    assert has_ended(history_of(*all_of_them), terms) is False
    # All that climbed have failed: nobody is left for the last rung.
    lost = decided(*trained[:-1], (0, 1, Status.FAILED, 1.0), (1, 1, Status.DIVERGED, 1.0))
    assert has_ended(lost, terms) is True
    assert summary_of(decided(*trained), terms).seconds_left == 2 * 1.0 + 2.0
    assert summary_of(decided(*all_of_them), terms).seconds_left == 0
    assert summary_of(lost, terms).seconds_left == 0


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        (Budget(full_trainings=200), "1.2 of 200 full trainings are spent"),
        (Budget(seconds=7200), "12 s of 2 h are spent"),
    ],
)
def test_a_report_warns_first_that_a_search_within_a_budget_goes_on(budget: Budget, words: str) -> None:
    terms = sized(budget)
    climb = climb_of(terms)
    assert climb is not None
    history = climbed(terms, most=5)
    assert has_ended(history, terms) is False
    assert spent_words(climb, history) == words
    page = search_page(replace(search_record(), terms=terms, history=history, space=SPACE))
    said = f"The search has not come to its end: {words}. The same frostline tune command goes on with it"
    assert said in re.sub("<[^>]*>|`", "", html.unescape(page))
    assert "keep it" not in page
    assert "Your own configuration, 0, is the best of those that have been trained in full so far" in page
    assert "all 5 in full" in page
    assert "may go on" in page
    assert "little is spent" in spent_words(climb, climbed(terms, most=0))


def test_a_report_of_a_search_within_a_budget_that_is_over_says_nothing_of_it() -> None:
    terms = sized(Budget(full_trainings=6))
    history = climbed(terms)
    assert has_ended(history, terms) is True
    page = search_page(replace(search_record(), terms=terms, history=history, space=SPACE))
    assert "has not come to its end" not in page
    assert "Your own configuration, 0, is the best: keep it." in page
    assert "may go on" not in page


def test_why_there_is_no_score_is_said_of_one_evaluation_and_of_several() -> None:
    terms = replace(TERMS, rungs=RUNGS, expected=(2, 0, 0))
    one, two = (0, 0, Status.DIVERGED, 1.0), (1, 0, Status.FAILED, 1.0)
    assert no_score_words(history_of(), terms) == "has no score yet: let the search run on."
    assert no_score_words(history_of(one), terms) == (
        "has no score yet: the only evaluation so far diverged: it did not work. Let the search run on."
    )
    assert no_score_words(history_of(one), replace(terms, expected=(1, 0, 0))) == (
        "has no score: the only evaluation diverged: it did not work."
    )
    assert no_score_words(history_of(one, two), terms) == (
        "has no score: all 2 evaluations diverged or failed, the first one diverged: it did not work."
    )


def test_a_study_that_is_read_again_is_as_far(tmp_path: Path) -> None:
    searched(tmp_path, budget=5)
    stored = read_study(f"sqlite:///{tmp_path}/studies.db", "s")
    assert has_ended(stored.history, stored.terms)
