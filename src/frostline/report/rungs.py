"""The rungs of a search: who was trained at each, who was promoted, and whether neighbouring rungs agree."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from frostline.audit.agreement import rank_correlation, survivor_agreement
from frostline.audit.rung_watch import UNMEASURED, losses_at
from frostline.errors import AuditError
from frostline.pages.drawing import (
    BLACK,
    BLUE,
    GREY,
    SKY,
    VERMILLION,
    better,
    frame,
    new_figure,
    num_outside,
    outside_words,
    safe,
    short,
    shown,
    thinned,
)
from frostline.pages.page import Section, drawn, note, table
from frostline.records import Status
from frostline.wording import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from frostline.records import Evaluation
    from frostline.report.study_record import StudyRecord
    from frostline.run.summary import Summary
    from frostline.search.history import History

    Array = NDArray[np.float64]

_MOST_POINTS = 300
_MOST_LINES = 120

# Fractions of the golden ratio fill an interval evenly, whatever the number of points.
_GOLDEN = 0.6180339887498949
_WIDTH = 0.5

# Over all configurations a lower rung should agree with the next by at least so much. Of survivors it is not known.
_POOR = 0.5


def rungs_section(record: StudyRecord, summary: Summary) -> Section:
    """Return the table and the figure of the rungs."""
    unit = record.terms.sample_unit
    # A column that says nothing takes room from one that does.
    trouble = [name for name in ("diverged", "failed") if any(getattr(rung, name) for rung in summary.rungs)]
    header = ("rung", "layers", unit, "done", *trouble, "went on", "best score", "seconds each", "seconds")
    climbed = [rung for rung in summary.rungs if rung.expected or rung.ended]
    rows = [
        (
            f"{rung.rung}",
            f"{rung.fidelity.trainable_layers}",
            f"{rung.fidelity.samples:,}",
            f"{rung.ended} of {rung.expected}",
            *(f"{getattr(rung, name)}" for name in trouble),
            f"{_num_promoted(record.history, rung.rung)}" if rung.rung + 1 < len(summary.rungs) else "",
            "" if rung.best is None else f"{rung.best.score:.5g}",
            "" if rung.seconds_each is None else f"{rung.seconds_each:.3g}",
            f"{rung.seconds:,.1f}",
        )
        for rung in climbed
    ]
    parts = [
        note("Scores are comparable within a rung. The last rung is the full training."),
        table(header, rows),
    ]
    scores = [one.score for one in record.history.evaluations() if one.score is not None]
    if scores:
        limits = frame(scores, record.terms.direction)
        marks = (
            "A point is a configuration. Circles went on to a higher rung, grey crosses did not; the lines follow "
            "some of those that went on."
        )
        text = (
            f"{marks} {better(record.terms.direction).capitalize()}.{outside_words(num_outside(scores, limits))}"
        )
        parts += [
            note(text),
            drawn(_figure(record, limits), "Points: the score of every configuration at each rung."),
        ]
    return Section(heading="The rungs, and who was promoted", parts=tuple(parts))


def agreement_section(record: StudyRecord) -> tuple[Section, list[str]]:
    """Return how well neighbouring rungs agree on the order of the configurations that both have, and warnings."""
    everyone = record.terms.is_sweep
    rows, warnings = [], []
    if not any(record.history.rung(rung).num_ended for rung in range(len(record.terms.rungs) - 1)):
        text = "No configuration was trained at a lower rung, so there is nothing to agree with."
        return Section(heading="Do neighbouring rungs agree?", parts=(note(text),)), []
    for rung in range(len(record.terms.rungs) - 1):
        lower, upper = (losses_at(record.history, at) for at in (rung, rung + 1))
        both = int((~np.isnan(lower) & ~np.isnan(upper)).sum())
        try:
            value, spread, whose = _agreement(lower, upper, everyone=everyone)
        except AuditError:
            rows.append((f"{rung} and {rung + 1}", f"{both}", "not told", "", "fewer than five configurations"))
            continue
        rows.append((f"{rung} and {rung + 1}", f"{both}", f"{value:.2f}", spread, whose))
        if value < (_POOR if everyone else UNMEASURED):
            warnings.append(
                f"Rungs {rung} and {rung + 1} order the {both} configurations that both have quite differently (rank "
                f"correlation {value:.2f}, {whose}): what rung {rung} promoted may not have been the best. Try a ladder "
                f"that starts higher, or measure one with `frostline audit`."
            )
    text = (
        "Spearman's rank correlation ρ between the scores at two neighbouring rungs, of the configurations that both have, "
        "with its 95 % bootstrap interval. Survivors of a selection are alike, so their correlation is smaller than it "
        "would be among all, and is not to be compared with an audit's."
    )
    if everyone:
        text = "Spearman's rank correlation between the scores at two neighbouring rungs, over all configurations."
    header = ("rungs", "both have", "ρ", "95 % interval", "of whom")
    content = table(header, rows, words=(4,)) if rows else ""
    return Section(heading="Do neighbouring rungs agree?", parts=(note(text), content)), warnings


def trouble_warnings(history: History) -> list[str]:
    """Return sentences about the trainings that diverged or failed."""
    sentences = []
    for status, verb in ((Status.DIVERGED, "diverged"), (Status.FAILED, "failed")):
        troubled = [one for one in history.evaluations() if one.status is status]
        if not troubled:
            continue
        reasons = list(dict.fromkeys(one.reason for one in troubled if one.reason))
        because = f" The first reason given: {reasons[0]}" if reasons else ""
        ratio = f"{len(troubled)} of {history.num_evaluations} trainings {verb}"
        consequence = (
            "they rank last" if status is Status.DIVERGED else "their configurations were dropped unjudged"
        )
        sentences.append(f"{ratio}; {consequence}.{because}")
    return sentences


def _agreement(lower: Array, upper: Array, *, everyone: bool) -> tuple[float, str, str]:
    if everyone:
        both = ~np.isnan(lower) & ~np.isnan(upper)
        return rank_correlation(lower[both], upper[both]), "", "among all"
    found = survivor_agreement(lower, upper)
    return found.value, f"{found.low:.2f} to {found.high:.2f}", found.label


def _num_promoted(history: History, rung: int) -> int:
    return sum(_went_on(history, one.number, rung) for one in history.evaluations() if one.rung == rung)


def _went_on(history: History, number: int, rung: int) -> bool:
    return any(history.evaluation(number, higher) is not None for higher in range(rung + 1, history.num_rungs))


def _place(number: int, rung: int) -> float:
    return rung + _WIDTH * (math.fmod(number * _GOLDEN, 1.0) - 0.5)


def _figure(record: StudyRecord, limits: tuple[float, float] | None) -> Any:
    history, terms = record.history, record.terms
    figure = new_figure(y="score")
    last = len(terms.rungs) - 1
    groups: dict[str, list[Evaluation]] = {"went on": [], "went no further": [], "trained in full": []}
    for rung in range(last + 1):
        ranked = [history.evaluation(number, rung) for number in history.rung(rung).ranking]
        found = [one for one in ranked if one is not None]
        if rung == last:
            groups["trained in full"] += thinned(found, _MOST_POINTS)
            continue
        for name, is_promoted in (("went on", True), ("went no further", False)):
            group = [one for one in found if _went_on(history, one.number, rung) is is_promoted]
            groups[name] += thinned(group, _MOST_POINTS)
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
    lowest = min(one.rung for one in history.evaluations())
    figure.update_xaxes(
        tickvals=list(range(last + 1)), ticktext=labels, range=[lowest - 0.5, last + 0.5], showgrid=False
    )
    if limits is not None:
        figure.update_yaxes(range=list(limits))
    return figure


def _add_points(
    figure: Any, group: list[Evaluation], history: History, *, name: str, marker: dict[str, Any]
) -> None:
    figure.add_scatter(
        x=[_place(one.number, one.rung) for one in group],
        y=[one.score for one in group],
        mode="markers",
        name=name,
        marker=marker,
        hoverinfo="text",
        hovertext=[_hover(one, history) for one in group],
    )


def _add_lines(figure: Any, promoted: list[Evaluation], history: History) -> None:
    """Draw, as one trace, the way of some configurations from rung to rung: of all that reached the top, if they are few."""
    numbers = sorted({one.number for one in promoted}, key=lambda number: -len(history.evaluations_of(number)))
    x: list[float | None] = []
    y: list[float | None] = []
    for number in numbers[:_MOST_LINES]:
        for one in history.evaluations_of(number):
            if one.score is not None:
                x.append(_place(number, one.rung))
                y.append(one.score)
        x.append(None)
        y.append(None)
    if x:
        line = {"color": SKY, "width": 1}
        figure.add_scatter(x=x, y=y, mode="lines", line=line, opacity=0.6, hoverinfo="skip", showlegend=False)


def _hover(evaluation: Evaluation, history: History) -> str:
    values = [
        f"{safe(name)} {safe(shown(value))}" for name, value in history.configurations[evaluation.number].items()
    ]
    title = f"configuration {evaluation.number}, rung {evaluation.rung}: {evaluation.score:.5g}"
    return "<br>".join([title, *values])
