"""The page of an audit: the verdict, the maps, and what is not told."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from optuna.distributions import FloatDistribution

from frostline.audit.audit import audit_of
from frostline.audit.landscape import Landscape
from frostline.audit.recommendation import recommend
from frostline.audit.shifts import CellShift, shifts
from frostline.pages.parts import Multiples
from frostline.report.audits.audit_page import audit_page
from frostline.report.audits.cells import optima_section
from frostline.report.audits.levels import pairs_section
from frostline.report.audits.maps import ladders_of, threshold_map
from frostline.report.audits.verdict import headline
from frostline.search.ladder import Ladder
from frostline.statistics.bootstrap import Estimate
from tests.report.cases import NASTY, landscape
from tests.report.test_search_report import Contents, figures_of, strings_in


def page_of(found: Landscape) -> str:
    return audit_page(
        found,
        audit_of(found, resamples=100),
        recommendation=recommend(found, configurations=9),
        shifts=shifts(found, resamples=50),
        source="A test",
    )


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_the_verdict_comes_first(direction: Any) -> None:
    words = Contents(page_of(landscape(direction=direction, noise=0.1))).words
    assert words.index(
        "Freezing is a valid fidelity here: 1 of 4 layers on 25 % of the images rank"
    ) < words.index("Recommended ladder:")
    assert "for 6.2 % of a full training by seconds." in words
    assert words.index("Recommended ladder:") < words.index("The best of 16 configurations trained in full")
    assert "Two seeds of full training agree at ρ = 1.00" in words


def test_scores_are_called_by_their_metric() -> None:
    found = dataclasses.replace(landscape(direction="maximize"), metric="accuracy")
    text = page_of(found)
    assert f"accuracy {found.scores[:, -1, -1].max():.5g} (higher is better)" in Contents(text).words
    titles = [figure["layout"]["yaxis"].get("title", {}).get("text") for figure in figures_of(text)]
    assert titles.count("accuracy") == 2
    assert "score" not in titles
    assert "the best accuracy of 16 configurations" in repr(found)
    rungs = [written for figure in figures_of(text) for written in strings_in(figure) if "ladder, rung" in written]
    assert rungs
    assert all(written.endswith("images") for written in rungs)


def test_a_landscape_of_noise_is_not_called_valid() -> None:
    found = landscape(noise=0.0)
    generator = np.random.default_rng(3)
    found.scores[:, :-1, :] = generator.random(found.scores[:, :-1, :].shape)
    words = Contents(page_of(found)).words
    assert "Freezing is not shown to rank well here" in words
    assert "Freezing is a valid fidelity" not in words


def test_the_map_holds_the_correlations() -> None:
    found = landscape()
    audit = audit_of(found, resamples=100)
    (figure, *_) = figures_of(audit_page(found, audit, source="A test"))
    assert figure["data"][0]["type"] == "heatmap"
    texts = next(trace["text"] for trace in figure["data"] if trace.get("mode") == "text")
    assert texts == [f"{value:.2f}" for value in audit.agreement.spearman.value.ravel()]
    hover = figure["data"][0]["hovertext"][0][0]
    low, high = audit.agreement.spearman.low[0, 0], audit.agreement.spearman.high[0, 0]
    assert f"95 %: {low:.3f} to {high:.3f}" in hover


def test_a_threshold_tells_sure_from_seeming() -> None:
    found = landscape()
    audit = audit_of(found, resamples=100)
    agreed = audit.agreement.spearman
    threshold = float(np.median(agreed.value))
    figure = threshold_map(found, audit.agreement, threshold, ())
    classes = np.array(figure.data[0].z)
    assert ((classes == 2) == (agreed.low >= threshold)).all()
    assert ((classes >= 1) == (agreed.value >= threshold)).all()
    assert {1, 2} <= set(classes.ravel())


def test_ladders_are_drawn_where_their_rungs_lie() -> None:
    found = landscape(configurations=18, layers=(1, 2, 3, 4, 5, 6, 7, 8), samples=(250, 500, 750, 1000))
    recommendation = recommend(found, configurations=9)
    ladders = ladders_of(found, recommendation)
    assert [one.name for one in ladders][:2] == ["recommended", "diagonal"]
    figure = threshold_map(found, audit_of(found, resamples=50).agreement, 0.85, ladders)
    line = next(trace for trace in figure.data if trace.name == "recommended")
    for x, y, rung in zip(line.x, line.y, recommendation.chosen.ladder.rungs, strict=True):
        assert abs(x - found.samples.index(rung.samples)) < 0.5
        assert abs(y - found.layers.index(rung.trainable_layers)) < 0.5
    assert len(ladders_of(found, None)) == 3


def test_too_few_configurations_are_said_to_be_so() -> None:
    found = landscape(configurations=3)
    words = Contents(audit_page(found, None, source="A test", warnings=["Not everything can be told."])).words
    assert "Too little to judge by: 3 configurations" in words
    assert "How well each fidelity ranks" not in words
    assert "What each fidelity costs" in words


def test_one_configuration_and_one_cell_make_a_page() -> None:
    found = landscape(configurations=1, layers=(4,), samples=(1000,))
    assert "Too little to judge by" in audit_page(found, None, source="A test")


@pytest.mark.parametrize(
    ("noise", "second"), [(0.0, "4 of 4 layers on 25 % of the images rank"), (9.0, "No smaller")]
)
def test_an_audit_of_all_layers_alone_says_that_freezing_was_not_measured(noise: float, second: str) -> None:
    words = Contents(page_of(landscape(layers=(4,), noise=noise))).words
    assert f"Freezing was not measured: every cell of this audit trains all layers. {second}" in words
    assert "nan" not in words
    assert "Would few layers rank better at other values?" in words


def test_diverged_configurations_are_left_out_and_counted() -> None:
    found = landscape(diverged=3)
    text = page_of(found)
    assert "27 cells of single configurations diverged and are left out." in text
    assert "3 more have no score, because they diverged or failed" in text
    (panels,) = (part for part in pairs_section(found, None).parts if isinstance(part, Multiples))
    assert {len(trace.x) for panel in panels.figures for trace in panel.plotly.data} == {13}


def test_where_all_have_diverged_no_empty_figure_is_drawn() -> None:
    found = landscape(diverged=16)
    text = audit_page(found, None, source="A test")
    assert Contents(text).words.count("Nothing to draw: no training has a score.") == 2
    assert [figure["data"][0]["type"] for figure in figures_of(text)] == ["heatmap"]


def test_of_few_configurations_it_is_said_how_little_the_chance_tells() -> None:
    found = landscape(configurations=6, noise=0.0)
    recommendation = recommend(found, configurations=9)
    text = audit_page(found, audit_of(found, resamples=50), recommendation=recommendation, source="A test")
    words = Contents(text).words
    assert "with a chance of 100 % ± 29; random search" in words
    assert "the surest does so with a chance of 100 % ± 29. More configurations in the audit" in words


def test_costs_that_nobody_knows_are_not_drawn() -> None:
    found = landscape()
    found.seconds[:] = np.nan
    words = Contents(audit_page(found, audit_of(found, resamples=50), source="A test")).words
    assert "Not told: neither seconds nor FLOPs are known of every cell." in words
    found.flops[:] = np.outer(found.layers, found.samples)
    words = Contents(audit_page(found, audit_of(found, resamples=50), source="A test")).words
    assert "of a full training by FLOPs" in words


def test_names_of_an_audit_are_escaped_too() -> None:
    found = landscape(task=NASTY, distributions={NASTY: FloatDistribution(1e-4, 1e-1, log=True)})
    text = page_of(dataclasses.replace(found, sample_unit=NASTY))
    contents = Contents(text)
    assert not any(tag == "img" for tag, _ in contents.tags)
    assert f"Audit of {NASTY}" in contents.words
    # plotly reads tags in what it draws.
    assert not any("<img" in written for figure in figures_of(text) for written in strings_in(figure))


def estimate(value: float, low: float, high: float) -> Estimate:
    return Estimate(value=np.array(value), low=np.array(low), high=np.array(high))


def test_shifts_are_told_with_their_intervals_and_what_is_sure_first() -> None:
    found = landscape()
    cell = CellShift(
        fidelity=found.fidelity((0, 0)),
        best={"learning_rate": estimate(1.0, 0.5, 1.25)},
        taken={"learning_rate": 1.0},
        factors={"learning_rate": 10.0},
        unaligned=0.3,
        gain=estimate(0.5, 0.2, 0.6),
    )
    words = Contents(audit_page(found, None, shifts=[cell], source="A test")).words
    assert "10 times the learning_rate would rank better: by the surrogate, ρ 0.80 instead of 0.30" in words
    assert "+1.00 (+0.50 to +1.25) 10 times 0.30 0.80" in words
    # At the next number of layers the head alone was trained otherwise too.
    moved = {"learning_rate": cell.best["learning_rate"], "head.learning_rate": estimate(-0.75, -1.0, -0.5)}
    second = dataclasses.replace(cell, fidelity=found.fidelity((1, 0)), best=moved)
    page = audit_page(found, None, shifts=[cell, second], source="A test")
    assert page.count("head.learning_rate") >= 2, "in the figure and in the table"
    assert "-0.75 (-1.00 to -0.50) as it is" in Contents(page).words
    unsure = dataclasses.replace(cell, taken={}, factors={})
    words = Contents(audit_page(found, None, shifts=[unsure], source="A test")).words
    assert "No shift is sure" in words
    assert "+1.00 (+0.50 to +1.25) as it is 0.30" in words
    assert "no hyperparameter has a logarithmic range" in audit_page(found, None, shifts=[], source="A test")


def test_a_shift_of_tens_is_written_whole() -> None:
    found = landscape()
    optima = audit_of(found, resamples=50).optima
    moved = dataclasses.replace(
        next(optimum for optimum in optima if optimum.name == "width"),
        shift=Estimate(value=np.full((3, 3), 20.0), low=np.full((3, 3), 10.4), high=np.full((3, 3), 30.0)),
    )
    little = dataclasses.replace(
        moved, shift=Estimate(value=np.full((3, 3), -0.5), low=np.full((3, 3), -0.75), high=np.full((3, 3), -0.25))
    )
    (maps,) = (part for part in optima_section(found, [moved, little]).parts if isinstance(part, Multiples))
    written = [{*trace.text} for panel in maps.figures for trace in panel.plotly.select_traces({"mode": "text"})]
    assert written == [{"+20.0"}, {"-.50"}]


def verdict_of(found: Landscape, recommendation: Any) -> str:
    return " ".join(headline(found, audit_of(found, resamples=50).agreement, recommendation))


def test_the_verdict_agrees_with_the_recommended_ladder_and_its_price() -> None:
    found = landscape(noise=0.1)
    # With all layers, few samples rank as well and cost no more than few layers do.
    found.seconds[:] = 10 * np.array([0.2, 0.5, 1.0])
    recommendation = recommend(found, configurations=9)
    ladder = Ladder.explicit([(1, 250), (4, 1000)], num_layers=4, full_samples=1000)
    freezing = dataclasses.replace(recommendation.chosen, ladder=ladder, full_trainings=0.4)
    whole = dataclasses.replace(
        recommendation.chosen,
        ladder=Ladder.explicit([(4, 250), (4, 1000)], num_layers=4, full_samples=1000),
    )
    with_freezing = verdict_of(found, dataclasses.replace(recommendation, chosen=freezing))
    assert "Freezing is a valid fidelity here: " in with_freezing
    assert (
        "this cell alone saves nothing, a ladder over several does. The recommended ladder costs 0.4"
        in with_freezing
    )
    for without in (dataclasses.replace(recommendation, chosen=whole), None):
        assert "Freezing is a valid fidelity here, but saves nothing: " in verdict_of(found, without)


def test_where_no_cell_ranks_the_verdict_is_the_ladders_or_says_that_none_is_sure() -> None:
    found = landscape(noise=0.0)
    found.scores[:, :-1, :] = np.random.default_rng(3).random(found.scores[:, :-1, :].shape)
    recommendation = recommend(found, configurations=9)
    ladder = Ladder.explicit([(1, 250), (4, 1000)], num_layers=4, full_samples=1000)
    chosen = dataclasses.replace(recommendation.chosen, ladder=ladder)
    sure = dataclasses.replace(recommendation, chosen=chosen, reaches=True)
    assert "Freezing is a valid fidelity here in a ladder over several cells" in verdict_of(found, sure)
    assert "use --ladder samples-only" not in verdict_of(found, sure)
    unsure = dataclasses.replace(sure, reaches=False)
    assert "No ladder is sure either; the one below is the surest." in verdict_of(found, unsure)
    text = audit_page(found, audit_of(found, resamples=50), recommendation=unsure, source="A test")
    assert "Surest ladder, though not sure enough: " in Contents(text).words
