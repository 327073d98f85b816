"""All configurations of a search: their order, their table, their lines, and what matters by all rungs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from optuna.distributions import FloatDistribution

from frostline.pages.parts import Note, Section, SortableTable
from frostline.records import Configuration, Status
from frostline.report.searches.all_configurations import lines_section, table_section
from frostline.report.searches.importance import importance_section
from frostline.report.searches.scored import scored_at
from frostline.report.searches.search_page import search_page
from frostline.report.searches.standings import standings
from frostline.report.study_record import StudyRecord
from frostline.search.history import History
from frostline.search.spaces.space import SearchSpace
from tests.report.cases import NASTY, PLAIN, evaluation, search_record
from tests.report.test_search_report import Contents

SPACE = SearchSpace(distributions=PLAIN)


def with_own(record: StudyRecord, **terms: Any) -> StudyRecord:
    return replace(record, terms=replace(record.terms, has_own=True, **terms))


def table_of(section: Section) -> SortableTable:
    (table,) = (part for part in section.parts if isinstance(part, SortableTable))
    return table


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_whoever_came_further_stands_better_and_within_a_rung_the_rank_decides(direction: Any) -> None:
    record = search_record(direction=direction, diverged=2)
    found = standings(record)
    assert len(found) == 27
    assert [one.last.rung for one in found] == [2] * 3 + [1] * 6 + [0] * 18
    assert [one.configuration.number for one in found[:3]] == list(record.history.rung(2).ranking)
    assert [one.last.status for one in found[-2:]] == [Status.DIVERGED] * 2
    shares = [one.share for one in found]
    assert shares == sorted(shares)
    assert 0 < shares[0] < shares[2] < 3 / 25 < shares[3] < shares[8] < 9 / 25 < shares[9]
    assert shares[-1] == 1


def test_one_that_begins_higher_stands_among_those_it_was_ranked_with() -> None:
    record = search_record(configurations=4)
    history = History("minimize")
    for configuration in record.history.configurations:
        history.add_configuration(configuration)
    # Two brackets: 0 and 1 begin at the lowest rung, 2 and 3 at the next.
    for number, rung, score in ((0, 0, 1.0), (1, 0, 2.0), (0, 1, 3.0), (2, 1, 1.0), (3, 1, 2.0)):
        history.finish(evaluation(number, rung, score))
    found = standings(replace(record, history=history))
    shares = {one.configuration.number: one.share for one in found}
    assert shares == {0: pytest.approx(5 / 6 / 2), 1: 0.75, 2: pytest.approx(1 / 6), 3: 0.5}
    assert [one.configuration.number for one in found] == [2, 3, 0, 1]


def test_one_that_climbed_over_a_rung_stands_as_one_that_was_promoted() -> None:
    record = search_record(configurations=4)
    history = History("minimize")
    for configuration in record.history.configurations:
        history.add_configuration(configuration)
    # One's own, 0, was trained in full at once; 1 and 2 climbed from rung 0, which told nothing, to rung 2.
    for number, rung, score in ((0, 2, 3.0), (1, 0, 2.3), (2, 0, 2.4), (3, 0, 2.5), (1, 2, 1.0), (2, 2, 2.0)):
        history.finish(evaluation(number, rung, score))
    found = standings(replace(record, history=history))
    assert [one.configuration.number for one in found] == [1, 2, 0, 3]
    assert [one.share for one in found] == pytest.approx([1 / 6 * 2 / 3, 1 / 2 * 2 / 3, 5 / 6, 5 / 6])


def test_what_an_objective_asked_for_is_shown_and_not_what_was_drawn() -> None:
    record = search_record(configurations=1)
    history = History("minimize")
    history.add_configuration(record.history.configurations[0])
    history.finish(replace(evaluation(0, 0, 1.0), suggested={"learning_rate": 0.25}))
    (one,) = standings(replace(record, history=history))
    assert dict(one.configuration) == {"learning_rate": 0.25}
    (row,) = table_of(table_section(replace(record, history=history), [one])).rows
    # The others were not asked for.
    assert [cell.value for cell in row[2:5]] == [0.25, "", ""]


def test_the_table_has_every_configuration_with_all_digits_and_ones_own_stands_out() -> None:
    record = with_own(search_record(diverged=2, failed=1), metric="loss")
    table = table_of(table_section(record, standings(record)))
    assert table.header == [
        "rank", "configuration", "learning_rate", "optimizer", "width", "rung", "outcome",
        "loss at rung 0", "loss at rung 1", "loss at rung 2", "seconds",
    ]  # fmt: skip
    assert [row[0].value for row in table.rows] == list(range(1, 28))
    by_number = {row[1].value: row for row in table.rows}
    best = record.history.rung(2).ranking[0]
    assert by_number[best][2].value == record.history.configurations[best]["learning_rate"]
    found = record.history.evaluation(best, 2)
    assert found is not None
    assert by_number[best][9] == (f"{found.score:.5g}", found.score)
    assert [by_number[number][6].text for number in (best, 0, 2)] == ["in full", "diverged", "failed"]
    (own,) = table.chosen
    assert table.rows[own][1].value == 0
    assert table_of(table_section(replace(record, name="../a b/c"), standings(record))).file_name == "..-a-b-c.csv"


def test_ones_own_stands_beside_the_best() -> None:
    record = with_own(search_record(), metric="loss")
    best, *_ = record.history.rung(2).ranking
    words = Contents(search_page(record)).words
    own = record.history.last_evaluation(0)
    assert own is not None
    top = record.history.evaluation(record.history.rung(own.rung).ranking[0], own.rung)
    assert top is not None
    assert (
        f"Your own configuration, 0, was not trained in full: at rung {own.rung} its loss was {own.score:.5g}, where the "
        f"best had {top.score:.5g}."
    ) in words
    assert f"Best: configuration {best}, loss " in words
    record.history.finish(evaluation(0, 2, 9.0))
    assert "Your own configuration, 0, trained in full, has a loss of 9." in Contents(search_page(record)).words
    assert "Your own" not in Contents(search_page(search_record())).words


def test_lines_go_across_all_hyperparameters_to_the_rank() -> None:
    record = with_own(search_record(distributions={**PLAIN, NASTY: FloatDistribution(0.5, 1.0)}))
    (_, figure) = lines_section(record, standings(record)).parts
    traces = {trace.name: trace for trace in figure.plotly.data}
    assert {*traces} == {"went no further", "trained in full", "your own", "the best"}
    assert sum(list(trace.x).count(4) for trace in traces.values()) == 27
    assert traces["the best"].y[4] == max(y for trace in traces.values() for y in trace.y[4::6])
    assert all(-0.05 <= y <= 1.05 for trace in traces.values() for y in trace.y if y is not None)
    assert not any("<img" in text for text in figure.plotly.layout.xaxis.ticktext)
    few = search_record(configurations=1)
    assert isinstance(lines_section(few, standings(few)).parts[0], Note)


def test_where_nobody_has_a_score_nobody_is_the_best() -> None:
    record = search_record()
    history = History("minimize")
    for one in record.history.configurations:
        history.add_configuration(one)
        history.finish(evaluation(one.number, 0, None, Status.DIVERGED))
    lost = replace(record, history=history)
    (_, figure) = lines_section(lost, standings(lost)).parts
    assert [trace.name for trace in figure.plotly.data] == ["went no further"]


def ranked(number: int, *, noise: float) -> list[tuple[Configuration, float]]:
    """Configurations whose learning rate alone decides, but for the noise."""
    generator = np.random.default_rng(5)
    found = []
    for index in range(number):
        place = generator.random(3)
        values = {
            "learning_rate": float(1e-4 * 1e3 ** place[0]),
            "optimizer": "Adam" if place[1] < 0.5 else "SGD",
            "width": int(8 + 56 * place[2]),
        }
        loss = (1 - noise) * abs(place[0] - 0.6) + noise * generator.random()
        found.append((Configuration(number=index, hyperparameters=values), float(loss)))
    return found


def words_of(section: Section) -> str:
    return section.parts[0].text  # type: ignore[union-attr]


def test_few_configurations_are_judged_by_a_model_of_all_rungs_and_it_says_so() -> None:
    section = importance_section(None, ranked(27, noise=0.0), space=SPACE)
    words = words_of(section)
    assert (
        "a model (a Gaussian process) of the ranks of all 27 configurations, within the rungs they came to"
        in words
    )
    assert "fewer than 100 were scored at one fidelity, too few for Optuna's measure" in words
    (bars,) = section.parts[1].plotly.data  # type: ignore[union-attr]
    assert bars.y[-1] == "learning_rate"
    assert bars.x[-1] > 0.9
    assert sum(bars.x) == pytest.approx(1)


def test_a_model_that_orders_nothing_is_not_believed() -> None:
    section = importance_section(None, ranked(27, noise=1.0), space=SPACE)
    assert len(section.parts) == 1
    assert words_of(section).startswith("Not told by a model")


def test_too_few_are_not_judged_and_many_by_optuna() -> None:
    words = words_of(importance_section(None, ranked(9, noise=0.0), space=SPACE))
    assert words.startswith("Not told: 9 configurations have been evaluated, and the importance of 3 hyper")
    record = search_record(configurations=120)
    section = importance_section(
        scored_at(record), [(one.configuration, one.share) for one in standings(record)], space=SPACE
    )
    assert "From 120 configurations at rung 0 (2 layers, 1,000 images), by Optuna (PED-ANOVA)" in words_of(section)
    assert "At full fidelity it may be otherwise." in words_of(section)
    same = [(configuration, 1.0) for configuration, _ in ranked(27, noise=0.0)]
    assert (
        words_of(importance_section(None, same, space=SPACE))
        == "Not told: all configurations have the same score."
    )
