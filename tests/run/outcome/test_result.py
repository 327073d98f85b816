"""What a search found, as it prints in a terminal and in a notebook."""

from __future__ import annotations

import re

from optuna.distributions import CategoricalDistribution, FloatDistribution

import frostline
from frostline import Ladder, SearchPlan, SearchSpace
from frostline.run.tuning import search_function

SPACE = SearchSpace(
    distributions={"rate": FloatDistribution(0.0, 1.0), "kind": CategoricalDistribution(["<b>", "&"])}
)
LADDER = Ladder.explicit([(1, 100), (2, 100), (2, 200)], num_layers=2, full_samples=200)


def result() -> frostline.TuneResult:
    plan = SearchPlan(
        configurations=9, initial=[{"rate": 0.125, "kind": "<b>"}], sample_unit="images", direction="maximize"
    )
    return search_function(
        lambda configuration, fidelity: -abs(configuration["rate"] - 0.125),
        SPACE,
        LADDER,
        study="<found>",
        plan=plan,
        storage=":memory:",
    )


def test_a_result_prints_its_best_configuration_and_its_rungs() -> None:
    lines = repr(result()).splitlines()
    assert lines[0] == "study '<found>': configuration 0, score -0 (higher is better), at full fidelity"
    assert lines[2].split() == ["rate", "0.125"]
    assert lines[3].split() == ["kind", "<b>"]
    assert lines[5].split() == [
        "rung",
        "layers",
        "images",
        "done",
        "best",
        "score",
        "seconds",
        "each",
        "seconds",
        "left",
    ]
    assert [line.split()[:4] for line in lines[6:9]] == [
        ["0", "1", "100", "9/9"],
        ["1", "2", "100", "3/3"],
        ["2", "2", "200", "1/1"],
    ]
    assert re.match(r"[\d.]+ m?s of training and validation, as much as ", lines[10])


def test_in_a_notebook_it_is_two_tables_and_nothing_in_them_is_markup() -> None:
    html = result()._repr_html_()
    assert html.count("<table>") == 2
    caption = '<caption style="white-space: nowrap; text-align: left">'
    assert f"{caption}study &#x27;&lt;found&gt;&#x27;: configuration 0" in html
    assert "<td>kind</td><td>&lt;b&gt;</td>" in html
    assert "<b>" not in html


def test_a_ladder_is_a_table_too() -> None:
    assert repr(LADDER) == str(LADDER)
    assert LADDER._repr_html_().startswith(
        "<table><thead><tr><th>rung</th><th>layers</th><th>samples</th><th>cost in full trainings</th></tr></thead>"
    )
    assert LADDER._repr_html_().count("<tr>") == 4
