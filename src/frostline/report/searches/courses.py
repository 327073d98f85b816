"""How scores moved while training, and what the search cost against training everything in full."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from frostline.pages.drawing import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    better,
    frame,
    new_figure,
    num_outside,
    outside_words,
    show_frame,
    thinned,
)
from frostline.pages.parts import Bullets, Figure, Note, Section
from frostline.records import loss_sign
from frostline.run.outcome.sentences import cost_lines, score_name
from frostline.wording import counted, duration

if TYPE_CHECKING:
    from frostline.records import Direction, Evaluation
    from frostline.report.study_record import StudyRecord
    from frostline.run.outcome.summary import Summary

# Neighbours are far apart for any eye, and dashed otherwise in print; black is the best.
_COLOURS = (BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY)
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
_MOST_CURVES = 60
_FEW_CURVES = 5


def curves_section(record: StudyRecord, best: Evaluation | None) -> Section:
    """Return the validation scores along the trainings, one colour for each rung."""
    heading = "How the trainings went"
    curves = [evaluation for evaluation in record.history.evaluations() if len(evaluation.curve) > 1]
    if not curves:
        return Section(heading, [Note("No training was validated more than once on its way.")])
    terms = record.terms
    scores = [point.score for evaluation in curves for point in evaluation.curve]
    limits = _end_frame(curves, terms.direction)
    text = (
        f"Validation score against {terms.sample_unit} trained, {better(terms.direction)}. A line is a "
        f"configuration; different numbers of layers are different tasks.{outside_words(num_outside(scores, limits))}"
    )
    by_rung = [
        [evaluation for evaluation in curves if evaluation.rung == rung] for rung in range(len(terms.rungs))
    ]
    if any(len(group) > _MOST_CURVES for group in by_rung):
        text += f" Of each rung {_MOST_CURVES} are drawn, evenly from its ranking."
    figure = new_figure(x=terms.sample_unit, y=score_name(terms.metric))
    figure.update_xaxes(rangemode="tozero", exponentformat="SI", nticks=7)
    show_frame(figure, limits)
    sign = loss_sign(terms.direction)
    for rung, group in enumerate(by_rung):
        ranked = sorted(
            group, key=lambda evaluation: math.inf if evaluation.score is None else sign * evaluation.score
        )
        name = f"rung {rung}, {counted(terms.rungs[rung].trainable_layers, 'layer')}"
        _add_curves(figure, thinned(ranked, _MOST_CURVES), name=name, rung=rung)
    if best is not None and len(best.curve) > 1:
        _add_curves(figure, [best], name="the best", rung=None)
    return Section(heading, [Note(text), Figure(figure, f"Lines: {text}")])


def spending_section(summary: Summary) -> Section:
    """Return what the search cost, rung by rung, against training every candidate in full."""
    heading, costs = "What it cost", Bullets(cost_lines(summary))
    full = summary.full_training_seconds
    if not full:
        return Section(
            heading, [costs, Note("No full training has ended yet, so there is nothing to compare with.")]
        )
    every = summary.num_configurations * full
    figure = new_figure(x="seconds of training and validation", height=210)
    for index, rung in enumerate(summary.rungs):
        if rung.seconds:
            figure.add_bar(
                y=["this search"],
                x=[rung.seconds],
                orientation="h",
                name=f"rung {rung.rung}",
                marker={"color": _COLOURS[index % len(_COLOURS)], "line": {"color": "white", "width": 1}},
                hovertemplate=f"rung {rung.rung}: {duration(rung.seconds)}<extra></extra>",
            )
    figure.add_bar(
        y=[f"all {summary.num_configurations} in full"],
        x=[every],
        orientation="h",
        marker={"color": GREY},
        showlegend=False,
        hovertemplate=f"{duration(every)}<extra></extra>",
    )
    figure.update_layout(barmode="stack", bargap=0.3, legend_traceorder="normal")
    figure.update_yaxes(autorange="reversed", showline=False, ticks="", ticklabelstandoff=6)
    figure.update_xaxes(nticks=6)
    label = "Bars: seconds of this search by rung, and of training every candidate in full."
    return Section(heading, [costs, Figure(figure, label)])


def _end_frame(curves: list[Evaluation], direction: Direction) -> tuple[float, float] | None:
    """Return the range of the scores at the ends of the curves: their beginnings may be many times as bad.

    It holds the better half of all points: where ends lie close together no curve would be seen otherwise. Of few curves
    there is room for all.
    """
    ends = [evaluation.score for evaluation in curves if evaluation.score is not None]
    if not ends:
        return None
    points = [point.score for evaluation in curves for point in evaluation.curve if math.isfinite(point.score)]
    counted_in = points if len(ends) < _FEW_CURVES else ends
    low, high = frame(counted_in, direction) or (min(counted_in), max(counted_in))
    middle = float(np.median(points))
    low, high = (low, max(high, middle)) if direction == "minimize" else (min(low, middle), high)
    margin = 0.06 * (high - low) or 1e-3 * abs(high)
    return low - margin, high + margin


def _add_curves(figure: Any, group: list[Evaluation], *, name: str, rung: int | None) -> None:
    """Draw curves as one trace: hundreds of traces would make the page slow."""
    x: list[float | None] = []
    y: list[float | None] = []
    numbers: list[int | None] = []
    for evaluation in group:
        x += [*(point.samples for point in evaluation.curve), None]
        y += [*(point.score for point in evaluation.curve), None]
        numbers += [*(evaluation.number for _ in evaluation.curve), None]
    if not x:
        return
    colour, width = (BLACK, 3.0) if rung is None else (_COLOURS[rung % len(_COLOURS)], 1.3)
    figure.add_scatter(
        x=x,
        y=y,
        customdata=numbers,
        mode="lines",
        name=name,
        line={"color": colour, "width": width, "dash": "solid" if rung is None else _DASHES[rung % len(_DASHES)]},
        opacity=1.0 if rung is None else 0.75,
        hovertemplate="configuration %{customdata}<br>%{x:,}: %{y:.5g}<extra></extra>",
    )
