"""Curves of trainings: what of them lies within the frame."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from frostline.pages.parts import Figure, Section
from frostline.records import CurvePoint, loss_sign
from frostline.report.searches.courses import curves_section
from frostline.report.study_record import StudyRecord
from frostline.search.history import History
from tests.report.cases import evaluation, search_record


def trained(*curves: tuple[float, ...], direction: Any = "minimize") -> StudyRecord:
    """A search whose configurations were trained in full, with these losses on their way."""
    record = search_record(configurations=len(curves), direction=direction)
    history = History(direction)
    for number, losses in enumerate(curves):
        history.add_configuration(record.history.configurations[number])
        scores = [loss_sign(direction) * loss for loss in losses]
        points = tuple(CurvePoint(1000 * (at + 1), score) for at, score in enumerate(scores))
        history.finish(replace(evaluation(number, 2, scores[-1]), curve=points))
    return replace(record, history=history)


def frame_of(section: Section) -> tuple[float, float]:
    (figure,) = (part for part in section.parts if isinstance(part, Figure))
    low, high = figure.plotly.layout.yaxis.range
    return low, high


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_a_single_curve_is_seen_whole(direction: Any) -> None:
    section = curves_section(trained((5.0, 4.0, 3.0, 2.0, 1.5, 1.0), direction=direction), None)
    low, high = sorted(abs(end) for end in frame_of(section))
    assert low < 1.0
    assert high > 5.0
    assert "outside the frame" not in f"{section.parts}"


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_where_curves_end_alike_half_of_their_way_is_seen(direction: Any) -> None:
    curves = [(900.0, 4.0, 2.0, 1.0 + 0.001 * number) for number in range(6)]
    low, high = sorted(abs(end) for end in frame_of(curves_section(trained(*curves, direction=direction), None)))
    assert low < 1.0
    assert 2.0 < high < 5.0
