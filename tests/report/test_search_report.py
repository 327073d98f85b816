"""The page of a search: what it says, whatever state the search is in, and that no name gets out of its place."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from frostline.pages.parts import Figure
from frostline.report.searches.all_configurations import lines_section
from frostline.report.searches.search_page import search_page
from frostline.report.searches.standings import standings
from frostline.run.outcome.front import best_front
from frostline.search.history import History
from tests.report.cases import NASTY, PLAIN, evaluation, search_record


class Contents(HTMLParser):
    """The tags and the visible text of a page, without its own script and style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.pieces: list[str] = []
        self._inside: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._inside and self._inside[-1] == tag:
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self.pieces.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.pieces).split())


def figures_of(text: str) -> list[dict[str, Any]]:
    return [
        json.loads(found) for found in re.findall(r'<script type="application/json">(.*?)</script>', text, re.S)
    ]


def test_the_answer_comes_first() -> None:
    record = search_record()
    best = record.history.evaluation(record.history.rung(2).ranking[0], 2)
    assert best is not None
    words = Contents(search_page(record)).words
    first = words.index(
        f"Best: configuration {best.number}, score {best.score:.5g} (lower is better), trained in full"
    )
    command = words.index("frostline train my_task.py:task --configuration")
    assert first < words.index("full trainings of") < command < words.index("The rungs, and who was promoted")
    assert "Whether the lower rungs promoted the right configurations cannot be told here" in words


def test_the_rungs_are_counted() -> None:
    record = search_record(diverged=2, failed=1)
    words = Contents(search_page(record)).words
    assert "rung layers images done diverged failed went on best score" in words
    assert "0 2 1,000 27 of 27 2 1 9 " in words
    assert (
        "2 of 39 trainings diverged; they rank last. The first reason given: because of <i>diverged</i>" in words
    )
    assert "1 of 39 trainings failed" in words


def test_why_a_better_score_stayed_behind_is_said() -> None:
    words = "good and unlike each other"
    assert words in Contents(search_page(search_record(varies=True))).words
    assert words not in Contents(search_page(search_record())).words
    assert words not in Contents(search_page(search_record(varies=True, rungs_done=1))).words


@pytest.mark.parametrize(("rungs_done", "where"), [(3, "in full"), (2, "at rung 1 of 2")])
def test_the_front_is_a_figure_and_a_table(rungs_done: int, where: str) -> None:
    record = search_record(against="bytes", rungs_done=rungs_done, configurations=54)
    page = search_page(record)
    words = Contents(page).words
    front = best_front(record.history, record.terms)
    assert 1 < len(front) < record.history.rung(rungs_done - 1).num_ended
    trained = record.history.rung(rungs_done - 1).num_ended
    assert (
        f"{len(front)} configurations that no other beats in both score and bytes of the model, of {trained} that"
        in words
    )
    assert f"were trained {where}" in words
    for member in front:
        width = member.configuration["width"]
        assert (
            f"{member.configuration.number} {member.score:.5g} {member.cost:.0f} B" in words or member.cost >= 1024
        )
        assert isinstance(width, int)
        assert member.cost == width**2
    (figure,) = (one for one in figures_of(page) if [trace.get("name") for trace in one["data"]][-1:] == ["front"])
    beaten, line = figure["data"]
    assert line["x"] == [member.cost for member in front]
    assert line["y"] == [member.score for member in front]
    assert len(beaten["x"]) == trained - len(front)


def test_without_a_cost_no_front_is_shown() -> None:
    assert "no other beats" not in search_page(search_record())


def test_survivors_are_called_so_and_three_are_too_few() -> None:
    words = Contents(search_page(search_record())).words
    row = re.search(r"0 and 1 9 (-?[\d.]+) (\S+) to (\S+) among survivors", words)
    assert row is not None
    assert float(row[2]) <= float(row[1]) <= float(row[3])
    assert "1 and 2 3 not told fewer than five configurations" in words
    assert "cannot be told here: " in words
    assert (
        "rungs 1 and 2 share 3 configurations. The answer is the best of those that were trained in full" in words
    )


def test_rungs_that_disagree_are_warned_of() -> None:
    record = search_record()
    ranking = record.history.rung(0).ranking[:9]
    for number in ranking:
        found = record.history.evaluation(number, 1)
        assert found is not None
        lower = record.history.evaluation(number, 0)
        assert lower is not None
        assert lower.score is not None
        object.__setattr__(found, "score", -lower.score)
    words = Contents(search_page(record)).words
    assert (
        "Rungs 0 and 1 order the 9 configurations that both have quite differently (rank correlation -1.00"
        in words
    )


def test_a_search_that_runs_says_so() -> None:
    words = Contents(search_page(search_record(rungs_done=2))).words
    assert "36 of 39 expected trainings have ended" in words
    assert "No configuration has been trained in full yet" in words
    assert "No full training has ended yet" in words


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_one_configuration_is_enough_for_a_page(direction: Any) -> None:
    text = search_page(search_record(configurations=1, direction=direction))
    words = Contents(text).words
    assert "There is one configuration only, so nothing was compared." in words
    assert "Not told: 1 configuration has been evaluated, and the importance of 3 hyperparameters needs" in words
    assert f"{'lower' if direction == 'minimize' else 'higher'} is better" in words


def test_a_search_without_any_score_has_a_page() -> None:
    record = search_record(configurations=5, diverged=5)
    words = Contents(search_page(record)).words
    assert "has no score yet: all 5 evaluations so far diverged or failed" in words
    for number in range(5):
        record.history.eliminate(number)
    words = Contents(search_page(record)).words
    assert "No configuration has a score." in words
    assert (
        "The study has no score: all 5 evaluations diverged or failed, the first one diverged: because of <i>diverged</i>."
    ) in words
    assert "5 of 5 trainings diverged" in words


def test_a_search_of_which_nothing_has_ended_is_warned_of() -> None:
    record = search_record(configurations=3, rungs_done=0)
    for expected in (record.terms.expected, ()):
        words = Contents(search_page(replace(record, terms=replace(record.terms, expected=expected)))).words
        assert "The study has no score yet: let the search run on." in words
        assert "No training has ended yet, so there is nothing to be read here." in words
        assert "No warning" not in words


def test_the_score_is_called_as_the_task_calls_it_in_figures_and_tables() -> None:
    record = search_record()
    page = search_page(replace(record, terms=replace(record.terms, metric="cross-entropy")))
    assert "went on best cross-entropy seconds each" in Contents(page).words
    titles = [figure["layout"].get("yaxis", {}).get("title", {}).get("text") for figure in figures_of(page)]
    assert titles.count("cross-entropy") == 2
    assert "score" not in titles


def test_many_choices_are_all_named_below_their_panel() -> None:
    choices = ["constant", "cosine", "linear warm-up", "one cycle", "inverse sqrt", "polynomial"]
    distributions = {
        "schedule": CategoricalDistribution(choices),
        "optimizer": CategoricalDistribution(["a", "b"]),
    }
    axes = [
        figure["layout"]["xaxis"] for figure in figures_of(search_page(search_record(distributions=distributions)))
    ]
    angles = {axis["ticktext"][0]: axis["tickangle"] for axis in axes if len(axis.get("ticktext", ())) in (2, 6)}
    assert angles == {"constant": -40, "a": 0}


def test_thousands_of_configurations_are_thinned() -> None:
    text = search_page(search_record(configurations=1200))
    assert "Of each rung 60 are drawn" in text
    assert "800 of 1200 are drawn" in text
    points = sum(len(trace.get("x", [])) for figure in figures_of(text) for trace in figure["data"])
    assert points < 10_000


def test_the_end_of_a_range_is_pointed_out() -> None:
    record = search_record(
        distributions={"momentum": FloatDistribution(0.5, 0.99), "depth": FloatDistribution(1.0, 2.0)}
    )
    best = record.history.configurations[record.history.rung(2).ranking[0]]
    assert "lies at the" not in search_page(record)
    best.hyperparameters["momentum"] = 0.989  # type: ignore[index]
    assert "The best momentum, 0.989, lies at the upper end of its range" in search_page(record)


def test_no_name_leaves_its_place() -> None:
    distributions = {
        NASTY: FloatDistribution(1e-4, 1e-1, log=True),
        "choice": CategoricalDistribution([NASTY, "plain", '"><script>alert(2)</script>']),
    }
    text = search_page(search_record(name=NASTY, distributions=distributions))
    contents = Contents(text)
    scripts = [attributes for tag, attributes in contents.tags if tag == "script"]
    assert sum(not attributes for attributes in scripts) == 3, "plotly's and the page's own two"
    assert all(attributes in ({}, {"type": "application/json"}) for attributes in scripts)
    assert not any(tag in ("img", "b") and attributes.get("onerror") for tag, attributes in contents.tags)
    assert NASTY in contents.words, "as text"
    # plotly reads tags in what it draws: there a name may stand only with its brackets written as entities.
    for figure in figures_of(text):
        for written in strings_in(figure):
            assert "<img" not in written
            assert "<script" not in written
    # Cut short, and not in the middle of an entity.
    ticks = [text for figure in figures_of(text) for text in figure["layout"]["xaxis"].get("ticktext", ())]
    assert "&lt;/script&gt;&lt;img…" in ticks
    drawn = " ".join(written for figure in figures_of(text) for written in strings_in(figure))
    assert html.escape(NASTY) in drawn
    assert "&quot;" not in drawn, "which plotly would show as it is"


def test_a_metric_is_called_in_figures_as_it_is_called() -> None:
    record = search_record()
    record = replace(record, terms=replace(record.terms, metric="F1 & <recall>"))
    titles = [figure["layout"]["yaxis"].get("title", {}).get("text") for figure in figures_of(search_page(record))]
    assert titles.count("F1 &amp; &lt;recall&gt;") == 2
    assert not any("&amp;amp;" in title for title in titles if title)


def test_hyperparameters_whose_names_begin_alike_are_told_apart() -> None:
    names = [f"model.encoder.attention.{name}" for name in ("dropout", "num_heads", "width")]
    record = search_record(distributions={name: FloatDistribution(1e-4, 1e-1, log=True) for name in names})
    section = lines_section(record, standings(record))
    (figure,) = (part for part in section.parts if isinstance(part, Figure))
    labels = figure.plotly.layout.xaxis.ticktext
    assert labels == ("model.en…dropout", "model.en…m_heads", "model.en…n.width", "rank")
    # One that is turned the other way, and long, would begin outside of the figure and not be drawn.
    assert figure.plotly.layout.xaxis.tickangle > 0


def strings_in(thing: Any) -> list[str]:
    if isinstance(thing, str):
        return [thing]
    parts = thing.values() if isinstance(thing, dict) else thing if isinstance(thing, list) else ()
    return [found for part in parts for found in strings_in(part)]


def test_nothing_is_fetched_and_plotly_is_there_once() -> None:
    text = search_page(search_record())
    contents = Contents(text)
    for tag, attributes in contents.tags:
        assert tag not in ("a", "link", "iframe", "img", "object", "base", "form")
        assert not {"src", "href", "srcset", "action", "data"} & set(attributes)
    policy = [attributes["content"] for _, attributes in contents.tags if "http-equiv" in attributes]
    assert policy
    assert str(policy[0]).startswith("default-src 'none'")
    assert text.count("plotly.js v") == 1


def test_the_same_study_gives_the_same_page() -> None:
    assert search_page(search_record()) == search_page(search_record())


def test_a_few_awful_scores_do_not_press_the_others_into_a_line() -> None:
    record = search_record()
    worst = record.history.evaluation(record.history.rung(0).ranking[-1], 0)
    assert worst is not None
    object.__setattr__(worst, "score", 1e6)
    text = search_page(record)
    assert "1 far worse score lies outside the frame" in text
    ranges = [figure["layout"]["yaxis"].get("range") for figure in figures_of(text)]
    assert ranges[0] is not None
    assert np.max(ranges[0]) < 10


def test_a_plain_space_has_a_figure_for_each_hyperparameter() -> None:
    labels = [attributes.get("aria-label") for _, attributes in Contents(search_page(search_record())).tags]
    for name in PLAIN:
        assert f"Points: the score against {name}." in labels


def test_rungs_that_nobody_climbs_are_left_out() -> None:
    record = search_record()
    history = History("minimize")
    for configuration in record.history.configurations:
        history.add_configuration(configuration)
        history.finish(evaluation(configuration.number, 2, 1.0 + configuration.number))
    record = replace(record, history=history, terms=replace(record.terms, search="full", expected=(0, 0, 27)))
    words = Contents(search_page(record)).words
    assert "seconds each seconds 2 9 9,000 27 of 27 1 0.9 24.3" in words
    assert "No configuration was trained at a lower rung, so there is nothing to agree with." in words
    assert "fewer than 100 were scored at one fidelity" in words


def test_what_was_tuned_has_settings_where_there_are_any() -> None:
    record = search_record()
    assert "settings horizon=rung" in Contents(search_page(record)).words
    objective = replace(record, terms=replace(record.terms, training=None))
    assert " settings " not in Contents(search_page(objective)).words
