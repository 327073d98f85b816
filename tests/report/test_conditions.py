"""Reports of objectives that ask for hyperparameters under a condition."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from torch import nn

import frostline
from frostline.pages.parts import Figure, Multiples, SortableTable
from frostline.records import Value
from frostline.report.conditions import having_words, nums_having, shared_space
from frostline.report.searches.all_configurations import lines_section, table_section
from frostline.report.searches.hyperparameters import slices_section
from frostline.report.searches.importance import importance_section
from frostline.report.searches.scored import scored_at
from frostline.report.searches.search_page import search_page
from frostline.report.searches.standings import standings
from frostline.report.study_record import StudyRecord, read_record
from frostline.search.history import History
from frostline.search.spaces.space import SearchSpace
from tests.report.cases import evaluation, search_record
from tests.report.test_search_report import Contents

DRAWN: Mapping[str, BaseDistribution] = {
    "optimizer": CategoricalDistribution(["sgd", "adamw"]),
    "sgd_rate": FloatDistribution(1e-4, 1e-3, log=True),
}
RATE = FloatDistribution(1e-3, 1e-1, log=True)


def conditional(*, configurations: int = 26, common: Mapping[str, BaseDistribution] | None = None) -> StudyRecord:
    """A search whose odd configurations are of adamw, which has a rate of its own, and are the better ones."""
    drawn = {**DRAWN, **(common or {})}
    record = search_record(configurations=configurations, distributions=drawn)
    history = History("minimize")
    for one in record.history.configurations:
        history.add_configuration(one)
        is_adamw = one.number % 2 == 1
        values: dict[str, Value] = {name: one[name] for name in common or {}}
        values |= {"optimizer": "adamw", "rate": 0.01} if is_adamw else {"optimizer": "sgd", "sgd_rate": 5e-4}
        score = 2.0 - is_adamw + 0.1 * float(one.get("depth", one.number / configurations))  # type: ignore[arg-type]
        ended = evaluation(one.number, 0, score)
        history.finish(replace(ended, suggested=values, ranges={"rate": RATE} if is_adamw else {}))
    return replace(record, history=history, space=SearchSpace(distributions={**drawn, "rate": RATE}))


def test_what_only_some_have_is_counted() -> None:
    record = conditional()
    configurations = [one.configuration for one in standings(record)]
    partial = nums_having(record.space, configurations)
    assert partial == {"sgd_rate": 13, "rate": 13}
    assert having_words(partial, 26) == "sgd_rate (13), rate (13 of 26 configurations)"
    assert having_words({f"h{index}": index for index in range(8)}, 9).endswith(
        "h5 (5 of 9 configurations), and 2 more"
    )
    shared = shared_space(record.space, partial)
    assert shared is not None
    assert list(shared.distributions) == ["optimizer"]
    assert shared_space(SearchSpace(distributions={"rate": RATE}), {"rate": 1}) is None
    # A value outside of what is searched is none.
    assert nums_having(SearchSpace(distributions={"rate": FloatDistribution(0.5, 1.0)}), configurations) == {
        "rate": 0
    }


@pytest.mark.parametrize("value", [-3.0, 5.0])
def test_a_value_that_was_asked_for_within_another_range_is_at_no_end(value: float) -> None:
    record = conditional()
    best = min((each for each in record.history.evaluations()), key=lambda each: each.score or 0.0)
    assert best.suggested["rate"] == 0.01
    history = History("minimize")
    for one in record.history.configurations:
        history.add_configuration(one)
        (ended,) = record.history.evaluations_of(one.number)
        is_best = ended is best
        history.finish(replace(ended, suggested={**ended.suggested, "rate": value}) if is_best else ended)
    page = search_page(replace(record, history=history))
    assert "lies at the" not in page
    (lines,) = (part for part in lines_section(record, standings(record)).parts if isinstance(part, Figure))
    outside = replace(record, history=history)
    (moved,) = (part for part in lines_section(outside, standings(outside)).parts if isinstance(part, Figure))
    names = [*record.space.distributions]
    at = names.index("rate")
    assert lines.plotly.data[-1].y[at] is not None
    assert moved.plotly.data[-1].y[at] is None


def test_a_line_leads_past_what_its_configuration_does_not_have() -> None:
    record = conditional()
    (note, figure) = lines_section(record, standings(record)).parts
    assert note.text.endswith("Dots lead past what it does not have.")  # type: ignore[union-attr]
    *_, dots, best = figure.plotly.data  # type: ignore[union-attr]
    assert [height is None for height in best.y] == [False, True, False, False, True]
    assert list(dots.x) == [0, 2, None]
    assert list(dots.y) == [best.y[0], best.y[2], None]
    plain = search_record()
    assert "Dots" not in lines_section(plain, standings(plain)).parts[0].text  # type: ignore[union-attr]


def test_a_panel_shows_those_that_have_its_hyperparameter_with_the_values_that_were_trained() -> None:
    section = slices_section(scored_at(conditional()))
    note, panels = section.parts
    assert isinstance(panels, Multiples)
    points = {figure.caption: figure.plotly.data[0] for figure in panels.figures}
    assert {name: len(trace.x) for name, trace in points.items()} == {"optimizer": 26, "sgd_rate": 13, "rate": 13}
    assert set(points["sgd_rate"].x) == {5e-4}
    assert set(points["rate"].x) == {0.01}
    assert max(points["rate"].y) < 1.2
    assert (
        "Only some have sgd_rate (13), rate (13 of 26 configurations): a panel shows those that do." in note.text
    )  # type: ignore[union-attr]


def test_the_table_and_what_was_tuned_have_what_came_under_a_condition() -> None:
    record = conditional()
    (table,) = (part for part in table_section(record, standings(record)).parts if isinstance(part, SortableTable))
    assert table.header[2:5] == ["optimizer", "sgd_rate", "rate"]
    assert [cell.value for cell in table.rows[0][2:5]] == ["adamw", "", 0.01]
    words = Contents(search_page(record)).words
    assert "searched: rate float from 0.001 to 0.1, log; 13 of 26 configurations have it" in words
    # What a study of before kept no range of has a column too.
    without = replace(record, space=SearchSpace(distributions=DRAWN))
    (table,) = (
        part for part in table_section(without, standings(without)).parts if isinstance(part, SortableTable)
    )
    assert table.header[2:5] == ["optimizer", "sgd_rate", "rate"]


@pytest.mark.parametrize("configurations", [40, 120])
def test_importance_is_told_of_what_all_have_and_says_what_it_leaves_out(configurations: int) -> None:
    record = conditional(configurations=configurations, common={"depth": FloatDistribution(1.0, 2.0)})
    ranked = [(one.configuration, one.share) for one in standings(record)]
    note, bars = importance_section(scored_at(record), ranked, space=record.space).parts
    half = configurations // 2
    assert (
        f"Left out is what only some have: sgd_rate ({half}), rate ({half} of {configurations} configurations)."
        in (
            note.text  # type: ignore[union-attr]
        )
    )
    assert f"{configurations} configurations" in note.text  # type: ignore[union-attr]
    (trace,) = bars.plotly.data  # type: ignore[union-attr]
    shares = dict(zip(trace.y, trace.x, strict=True))
    assert set(shares) == {"optimizer", "depth"}
    # Optuna looks at the best tenth, which all are of one optimizer.
    assert max(shares, key=shares.__getitem__) == ("optimizer" if configurations == 40 else "depth")


def test_importance_is_not_told_where_all_have_one_hyperparameter_alone() -> None:
    record = conditional()
    ranked = [(one.configuration, one.share) for one in standings(record)]
    (note,) = importance_section(scored_at(record), ranked, space=record.space).parts
    assert note.text == (  # type: ignore[union-attr]
        "Not told: only some have sgd_rate (13), rate (13 of 26 configurations); optimizer, which all have, cannot be "
        "weighed against these."
    )


def test_a_record_has_the_ranges_that_an_objective_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    points = torch.ones(8, 2)

    def objective(trial: frostline.Trial) -> float:
        model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
        trial.freeze(model)
        name = trial.suggest_categorical("optimizer", ["sgd", "adamw"])
        rate = trial.suggest_float("rate", 1e-3, 1e-1, log=True) if name == "adamw" else 0.01
        for _ in trial.batches([points]):
            loss = model(points).square().mean()
            loss.backward()
        return float(loss) + rate + trial.suggest_float("sgd_rate", 0.0, 1.0)

    found = frostline.tune(objective, samples=80, search="full", configurations=8, storage="sqlite:///own.db")
    space = read_record("sqlite:///own.db", found.study_name).space
    assert space.distributions["rate"] == RATE
    assert np.isin([*space.distributions], ["optimizer", "rate", "sgd_rate"]).all()
