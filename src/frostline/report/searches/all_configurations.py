"""All configurations of a search: as a table that can be sorted and saved, and as lines across their hyperparameters."""

from __future__ import annotations

import itertools
import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from frostline.pages.drawing import (
    BLACK,
    BLUE,
    GREY,
    VERMILLION,
    configuration_hover,
    new_figure,
    safe,
    shown,
    thinned,
)
from frostline.pages.parts import Cell, Figure, Note, Section, SortableTable
from frostline.records import Status
from frostline.report.conditions import nums_having
from frostline.report.searches.importance import cut, shortened
from frostline.run.outcome.ending import has_ended
from frostline.run.outcome.sentences import score_name
from frostline.search.spaces.space import holds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna.distributions import BaseDistribution

    from frostline.records import Value
    from frostline.report.searches.standings import Standing
    from frostline.report.study_record import StudyRecord

_MOST_LINES = 300
_LONGEST_NAME = 16
# Of a choice no line is to hide another one.
_SPREAD = 0.06
_GOLDEN = 0.6180339887498949


def table_section(record: StudyRecord, ranked: Sequence[Standing]) -> Section:
    """Return the table of all configurations, the best first."""
    # An objective may ask for more than was tuned: a single value, or what a study of before kept no range of.
    asked = (name for one in ranked for name in one.configuration)
    names = list(dict.fromkeys([*record.space.distributions, *asked]))
    metric = score_name(record.terms.metric)
    # A rung that nobody came to would have a column that says nothing.
    seen = [rung for rung in range(len(record.terms.rungs)) if record.history.rung(rung).num_ended]
    scores = [f"{metric} at rung {rung}" for rung in seen]
    header = ["rank", "configuration", *names, "rung", "outcome", *scores, "seconds"]
    is_over = bool(has_ended(record.history, record.terms))
    rows = [_row(record, one, place, names, seen, is_over=is_over) for place, one in enumerate(ranked, start=1)]
    own = [place for place, one in enumerate(ranked) if record.terms.has_own and one.configuration.number == 0]
    text = (
        "Whoever came furthest first, and of these the best. A click on a heading sorts; the file has all digits."
        f"{' Your own configuration stands out.' if own else ''}"
    )
    words = (*range(2, len(names) + 2), len(names) + 3)
    file_name = f"{re.sub(r'[^A-Za-z0-9._-]+', '-', record.name)[:80] or 'study'}.csv"
    return Section(
        "All configurations", [Note(text), SortableTable(header, rows, file_name, words=words, chosen=own)]
    )


def lines_section(record: StudyRecord, ranked: Sequence[Standing]) -> Section:
    """Return every configuration as a line across its hyperparameters, to how it stands."""
    heading = "Configurations across their hyperparameters"
    if len(ranked) < 2:
        return Section(heading, [Note("Nothing to draw: fewer than two configurations have been evaluated.")])
    last = len(record.terms.rungs) - 1
    heights = {one.configuration.number: 1 - place / (len(ranked) - 1) for place, one in enumerate(ranked)}
    groups: dict[str, list[Standing]] = {
        "went no further": [],
        "trained in full": [],
        "your own": [],
        "the best": [],
    }
    for one in ranked:
        is_own = record.terms.has_own and one.configuration.number == 0
        kind = "your own" if is_own else "trained in full" if one.last.rung == last else "went no further"
        groups["the best" if one is ranked[0] and one.last.score is not None else kind].append(one)
    styles = {
        "went no further": {"color": GREY, "width": 1},
        "trained in full": {"color": BLUE, "width": 1.8},
        "your own": {"color": VERMILLION, "width": 3, "dash": "dash"},
        "the best": {"color": BLACK, "width": 3},
    }
    axes = list(record.space.distributions.items())
    figure = new_figure(height=430)
    for name, group in groups.items():
        if group:
            _add_lines(figure, thinned(group, _MOST_LINES), axes, heights, (name, styles[name]))
    labels = [safe(shortened(name, _LONGEST_NAME)) for name, _ in axes]
    ends = [_ends(distribution) for _, distribution in axes]
    figure.update_xaxes(
        tickvals=list(range(len(axes) + 1)), ticktext=[*labels, "rank"], tickangle=40, showgrid=True
    )
    figure.update_yaxes(visible=False, range=[-0.1, 1.1])
    for place, (low, high) in enumerate([*ends, ("worst", "best")]):
        for text, y in ((low, -0.06), (high, 1.06)):
            figure.add_annotation(x=place, y=y, text=safe(text), showarrow=False, font={"size": 10})
    text = (
        "A line is a configuration: each hyperparameter from the lower end of its range to the upper, on its own scale, and "
        "last its place in the table below, the best on top."
    )
    if nums_having(record.space, [one.configuration for one in ranked]):
        text += " Dots lead past what it does not have."
    if any(len(group) > _MOST_LINES for group in groups.values()):
        text += f" Of each colour {_MOST_LINES} are drawn."
    return Section(heading, [Note(text), Figure(figure, f"Lines: {text}")])


def _row(
    record: StudyRecord, one: Standing, place: int, names: Sequence[str], rungs: Sequence[int], *, is_over: bool
) -> list[Cell]:
    number, last = one.configuration.number, one.last
    scores = [record.history.evaluation(number, rung) for rung in rungs]
    is_full = last.rung == len(record.terms.rungs) - 1
    outcome = last.status.value if last.status is not Status.FINISHED else "in full" if is_full else "left behind"
    if outcome == "left behind" and number not in record.history.eliminated and not is_over:
        outcome = "may go on"
    seconds = sum(evaluation.cost.seconds for evaluation in record.history.evaluations_of(number))
    return [
        Cell(f"{place}", place),
        Cell(f"{number}", number),
        *(_value_cell(one.configuration.get(name, "")) for name in names),
        Cell(f"{last.rung}", last.rung),
        Cell(outcome, outcome),
        *(_score_cell(None if evaluation is None else evaluation.score) for evaluation in scores),
        Cell(f"{seconds:.3g}", seconds),
    ]


def _value_cell(value: Value) -> Cell:
    return Cell(shown(value), value if isinstance(value, int | float | str) else f"{value}")


def _score_cell(score: float | None) -> Cell:
    return Cell("", "") if score is None else Cell(f"{score:.5g}", score)


def _add_lines(
    figure: Any,
    group: Sequence[Standing],
    axes: Sequence[tuple[str, BaseDistribution]],
    heights: Mapping[int, float],
    named_style: tuple[str, dict[str, Any]],
) -> None:
    """Draw the lines of a group as one trace; ``heights``, by number, are where they end."""
    name, style = named_style
    x: list[float | None] = []
    y: list[float | None] = []
    hovers: list[str | None] = []
    past: list[tuple[float | None, float | None]] = []
    for one in group:
        number = one.configuration.number
        places = [_place(distribution, one.configuration.get(axis), number) for axis, distribution in axes]
        title = f"configuration {number}, rung {one.last.rung}"
        if one.last.score is not None:
            title += f": {one.last.score:.5g}"
        line = [*places, heights[number]]
        x += [*range(len(line)), None]
        y += [*line, None]
        hovers += [configuration_hover(title, one.configuration)] * len(line) + [None]
        there = [(axis, height) for axis, height in enumerate(line) if height is not None]
        for left, right in itertools.pairwise(there):
            past += [left, right, (None, None)] * (right[0] > left[0] + 1)
    look = {"mode": "lines", "opacity": 0.45 if name == "went no further" else 0.9}
    if past:
        dots = {**style, "dash": "dot"}
        xs, ys = zip(*past, strict=True)
        figure.add_scatter(x=xs, y=ys, line=dots, hoverinfo="skip", showlegend=False, **look)
    figure.add_scatter(x=x, y=y, name=name, line=style, hoverinfo="text", hovertext=hovers, **look)


def _place(distribution: BaseDistribution, value: Value, number: int) -> float | None:
    """Return where a value lies between the ends of its range, 0 to 1; None where it has none."""
    # What was asked for under a condition may have another range there.
    if not holds(distribution, value):
        return None
    if isinstance(distribution, CategoricalDistribution):
        aside = _SPREAD * (math.fmod(number * _GOLDEN, 1.0) - 0.5)
        return distribution.choices.index(value) / max(1, len(distribution.choices) - 1) + aside
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    assert isinstance(value, int | float)
    if distribution.high == distribution.low:
        return None
    numbers = np.array([distribution.low, value, distribution.high], dtype=np.float64)
    low, at, high = np.log(numbers) if distribution.log else numbers
    return float((at - low) / (high - low))


def _ends(distribution: BaseDistribution) -> tuple[str, str]:
    if isinstance(distribution, CategoricalDistribution):
        return cut(f"{distribution.choices[0]}", 10, mark="…"), cut(f"{distribution.choices[-1]}", 10, mark="…")
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return f"{distribution.low:.3g}", f"{distribution.high:.3g}"
