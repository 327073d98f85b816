"""The rungs of a search: who was trained at each, who was promoted, and whether neighbouring rungs agree."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from frostline.pages.drawing import (
    BLACK,
    BLUE,
    GREY,
    SKY,
    VERMILLION,
    better,
    configuration_hover,
    frame,
    new_figure,
    num_outside,
    outside_words,
    short,
    show_frame,
    thinned,
)
from frostline.pages.parts import Figure, Note, Part, Section, Table
from frostline.records import Status
from frostline.run.outcome.sentences import score_name
from frostline.wording import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from frostline.records import Evaluation
    from frostline.report.study_record import StudyRecord
    from frostline.run.outcome.summary import Summary
    from frostline.search.history import History

    Array = NDArray[np.float64]

_MOST_POINTS = 300
_MOST_LINES = 120

# Fractions of the golden ratio fill an interval evenly, whatever the number of points.
_GOLDEN = 0.6180339887498949
_WIDTH = 0.5


def rungs_section(record: StudyRecord, summary: Summary) -> Section:
    """Return the table and the figure of the rungs."""
    unit = record.terms.sample_unit
    # A column that says nothing takes room from one that does.
    trouble = [name for name in ("diverged", "failed") if any(getattr(rung, name) for rung in summary.rungs)]
    best = f"best {score_name(record.terms.metric)}"
    header = ("rung", "layers", unit, "done", *trouble, "went on", best, "seconds each", "seconds")
    climbed = [rung for rung in summary.rungs if rung.expected or rung.ended]
    rows = [
        (
            f"{rung.rung}",
            f"{rung.fidelity.trainable_layers}",
            f"{rung.fidelity.samples:,}",
            f"{rung.ended}" if rung.expected is None else f"{rung.ended} of {rung.expected}",
            *(f"{getattr(rung, name)}" for name in trouble),
            f"{_num_promoted(record.history, rung.rung)}" if rung.rung + 1 < len(summary.rungs) else "",
            "" if rung.best is None else f"{rung.best.score:.5g}",
            "" if rung.seconds_each is None else f"{rung.seconds_each:.3g}",
            f"{rung.seconds:,.1f}",
        )
        for rung in climbed
    ]
    parts: list[Part] = [
        Note("Scores are comparable within a rung. The last rung is the full training."),
        Table(header, rows),
    ]
    scores = [evaluation.score for evaluation in record.history.evaluations() if evaluation.score is not None]
    if scores:
        limits = frame(scores, record.terms.direction)
        text = (
            "A point is a configuration. Circles went on to a higher rung, grey crosses did not; the lines follow some of "
            f"those that went on. {better(record.terms.direction).capitalize()}."
            f"{outside_words(num_outside(scores, limits))}{_variety_words(record)}"
        )
        label = "Points: the score of every configuration at each rung."
        parts += [Note(text), Figure(_figure(record, limits), label)]
    return Section("The rungs, and who was promoted", parts)


def trouble_warnings(history: History) -> list[str]:
    """Return sentences about the trainings that diverged or failed."""
    sentences = []
    for status, verb in ((Status.DIVERGED, "diverged"), (Status.FAILED, "failed")):
        troubled = [evaluation for evaluation in history.evaluations() if evaluation.status is status]
        if not troubled:
            continue
        reasons = [evaluation.reason for evaluation in troubled if evaluation.reason]
        because = f" The first reason given: {reasons[0]}" if reasons else ""
        ratio = f"{len(troubled)} of {history.num_evaluations} trainings {verb}"
        consequence = (
            "they rank last" if status is Status.DIVERGED else "their configurations were dropped unjudged"
        )
        sentences.append(f"{ratio}; {consequence}.{because}")
    return sentences


def _variety_words(record: StudyRecord) -> str:
    """Return why better scores stayed behind than went on, if any did under a budget where the next rung has more layers."""
    if record.terms.expected or record.terms.against is not None:
        return ""
    for rung, (here, above) in enumerate(pairwise(record.terms.rungs)):
        went = [_went_on(record.history, number, rung) for number in record.history.rung(rung).ranking]
        if here.trainable_layers < above.trainable_layers and went != sorted(went, reverse=True):
            return (
                " To more layers went those that were good and unlike each other, since few layers may prefer other values "
                "than all: a better score may have stayed behind."
            )
    return ""


def _num_promoted(history: History, rung: int) -> int:
    return sum(
        _went_on(history, evaluation.number, rung)
        for evaluation in history.evaluations()
        if evaluation.rung == rung
    )


def _went_on(history: History, number: int, rung: int) -> bool:
    return any(history.evaluation(number, higher) is not None for higher in range(rung + 1, history.num_rungs))


def _place(number: int, rung: int) -> float:
    return rung + _WIDTH * (math.fmod(number * _GOLDEN, 1.0) - 0.5)


def _figure(record: StudyRecord, limits: tuple[float, float] | None) -> Any:
    history, terms = record.history, record.terms
    figure = new_figure(y=score_name(terms.metric))
    last = len(terms.rungs) - 1
    groups = _groups(history, last)
    _add_lines(figure, groups["went on"], history)
    styles: dict[str, dict[str, Any]] = {
        "went on": {"color": BLUE, "symbol": "circle"},
        "went no further": {"color": GREY, "symbol": "x-thin", "line": {"width": 1.5, "color": GREY}},
        "trained in full": {"color": VERMILLION, "symbol": "diamond"},
    }
    for name, group in groups.items():
        if group:
            _add_points(figure, group, history, name=name, marker={"size": 8, **styles[name]})
    final = history.rung(last).ranking
    best = history.evaluation(final[0], last) if final else None
    if best is not None:
        marker = {"size": 15, "color": BLACK, "symbol": "star", "line": {"color": "white", "width": 1}}
        _add_points(figure, [best], history, name="the best", marker=marker)
    labels = [
        f"rung {index}<br>{counted(layers, 'layer')}<br>{short(samples)}"
        for index, (layers, samples) in enumerate((rung.trainable_layers, rung.samples) for rung in terms.rungs)
    ]
    lowest = min(evaluation.rung for evaluation in history.evaluations())
    figure.update_xaxes(
        tickvals=list(range(last + 1)), ticktext=labels, range=[lowest - 0.5, last + 0.5], showgrid=False
    )
    show_frame(figure, limits)
    return figure


def _groups(history: History, last: int) -> dict[str, list[Evaluation]]:
    """Return the evaluations that are drawn, some of every rung, by what became of them."""
    groups: dict[str, list[Evaluation]] = {"went on": [], "went no further": [], "trained in full": []}
    for rung in range(last + 1):
        ranked = [history.evaluation(number, rung) for number in history.rung(rung).ranking]
        fates: dict[str, list[Evaluation]] = {name: [] for name in groups}
        for evaluation in ranked:
            assert evaluation is not None
            went_on = _went_on(history, evaluation.number, rung)
            fate = "trained in full" if rung == last else "went on" if went_on else "went no further"
            fates[fate].append(evaluation)
        for name, group in fates.items():
            groups[name] += thinned(group, _MOST_POINTS)
    return groups


def _add_points(
    figure: Any, group: list[Evaluation], history: History, *, name: str, marker: dict[str, Any]
) -> None:
    figure.add_scatter(
        x=[_place(evaluation.number, evaluation.rung) for evaluation in group],
        y=[evaluation.score for evaluation in group],
        mode="markers",
        name=name,
        marker=marker,
        hoverinfo="text",
        hovertext=[_hover(evaluation, history) for evaluation in group],
    )


def _add_lines(figure: Any, promoted: list[Evaluation], history: History) -> None:
    """Draw, as one trace, the way of some configurations from rung to rung: of all that reached the top, if they are few."""
    numbers = sorted(
        {evaluation.number for evaluation in promoted}, key=lambda number: -len(history.evaluations_of(number))
    )
    x: list[float | None] = []
    y: list[float | None] = []
    for number in numbers[:_MOST_LINES]:
        scored = [evaluation for evaluation in history.evaluations_of(number) if evaluation.score is not None]
        x += [*(_place(number, evaluation.rung) for evaluation in scored), None]
        y += [*(evaluation.score for evaluation in scored), None]
    if x:
        line = {"color": SKY, "width": 1}
        figure.add_scatter(x=x, y=y, mode="lines", line=line, opacity=0.6, hoverinfo="skip", showlegend=False)


def _hover(evaluation: Evaluation, history: History) -> str:
    title = f"configuration {evaluation.number}, rung {evaluation.rung}: {evaluation.score:.5g}"
    return configuration_hover(title, history.configuration_of(evaluation))
