"""Where the good values of hyperparameters lie."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from frostline.pages.drawing import (
    SCALE,
    SMALL_HEIGHT,
    frame,
    new_figure,
    num_outside,
    outside_words,
    safe,
    show_frame,
    shown,
    thinned,
)
from frostline.pages.parts import Figure, Multiples, Note, Section
from frostline.report.conditions import has, having_words, nums_having
from frostline.report.searches.importance import cut
from frostline.report.searches.scored import Scored

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

    from frostline.records import Configuration, Value

_MOST_POINTS = 800

_LONGEST_CHOICE = 14
# What fits below a panel side by side; plotly turns more, and leaves some out.
_MOST_LETTERS = 24

# What counts as the end of a range.
_EDGE = 0.02


def slices_section(scored: Scored | None) -> Section:
    """Return the score against each hyperparameter."""
    heading = "Where the good values lie"
    if scored is None:
        return Section(heading, [Note("Nothing to draw: there is no score yet.")])
    limits = frame(scored.scores, scored.direction)
    text = (
        f"A point is a configuration at {scored.where}, its score upwards; the darker, the later it was drawn."
        f"{outside_words(num_outside(scored.scores, limits))}{scored.caution}"
    )
    few = scored
    if len(scored.scores) > _MOST_POINTS:
        indices = thinned(range(len(scored.scores)), _MOST_POINTS)
        few = replace(
            scored,
            configurations=tuple(scored.configurations[index] for index in indices),
            scores=tuple(scored.scores[index] for index in indices),
        )
        text += f" {_MOST_POINTS} of {len(scored.scores)} are drawn."
    partial = nums_having(scored.space, scored.configurations)
    if partial:
        text += (
            f" Only some have {having_words(partial, len(scored.configurations))}: a panel shows those that do."
        )
    figures = [
        Figure(_slice_figure(few, name, limits), f"Points: the score against {name}.", caption=name)
        for name in scored.space.distributions
    ]
    return Section(heading, [Note(text), Multiples(figures, is_small=True)])


def edge_warnings(scored: Scored | None, best: Configuration) -> list[str]:
    """Return a sentence for each hyperparameter whose best value lies at the end of its range."""
    if scored is None:
        return []
    sentences = []
    for name, distribution in scored.space.distributions.items():
        # Under a condition it may have been asked for within another range, of which nothing is known here.
        end = _end(distribution, best[name]) if has(best, name, scored.space) else ""
        if end:
            sentences.append(
                f"The best {name}, {best[name]:.4g}, lies at the {end} end of its range: a better one may lie beyond. "
                f"Widen the range and search again."
            )
    return sentences


def _end(distribution: BaseDistribution, value: Value) -> str:
    if isinstance(distribution, CategoricalDistribution):
        return ""
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    assert isinstance(value, int | float)
    low, high = float(distribution.low), float(distribution.high)
    place = (float(value) - low) / (high - low) if high > low else 0.5
    if distribution.log:
        place = math.log(float(value) / low) / math.log(high / low) if high > low else 0.5
    return "lower" if place < _EDGE else "upper" if place > 1 - _EDGE else ""


def _slice_figure(scored: Scored, name: str, limits: tuple[float, float] | None) -> Any:
    """Return the scores against a hyperparameter: numbers at their places, choices side by side."""
    distribution = scored.space.distributions[name]
    points = [
        (order, configuration[name], score)
        for order, (configuration, score) in enumerate(zip(scored.configurations, scored.scores, strict=True))
        if has(configuration, name, scored.space)
    ]
    figure = new_figure(height=SMALL_HEIGHT, legend=False)
    figure.add_scatter(
        x=[
            distribution.to_internal_repr(value) if isinstance(distribution, CategoricalDistribution) else value
            for _, value, _ in points
        ],
        y=[score for _, _, score in points],
        mode="markers",
        marker={
            "color": [order for order, _, _ in points],
            "colorscale": SCALE,
            "reversescale": True,
            "size": 7,
            "line": {"width": 0.5, "color": "Grey"},
        },
        text=[safe(shown(value)) for _, value, _ in points],
        hovertemplate="%{text}: %{y:.4g}<extra></extra>",
    )
    if isinstance(distribution, CategoricalDistribution):
        # Cut before escaped: half an entity would be read as text.
        names = [safe(cut(f"{choice}", _LONGEST_CHOICE, mark="…")) for choice in distribution.choices]
        is_crowded = (
            sum(min(len(f"{choice}"), _LONGEST_CHOICE) + 2 for choice in distribution.choices) > _MOST_LETTERS
        )
        figure.update_xaxes(
            tickvals=[*range(len(names))],
            ticktext=names,
            range=[-0.5, len(names) - 0.5],
            tickangle=-40 if is_crowded else 0,
        )
    elif getattr(distribution, "log", False):
        # Between decades there is no room for numbers, and of many decades not for each.
        places = figure.data[0].x
        decades = math.log10(max(places) / min(places)) if places else 1
        dtick = max(1, math.ceil(decades / 2))
        figure.update_xaxes(type="log", dtick=dtick, exponentformat="power", tickangle=0)
    else:
        figure.update_xaxes(nticks=5)
    figure.update_yaxes(nticks=6)
    show_frame(figure, limits)
    figure.update_layout(margin={"l": 32, "r": 8, "t": 6, "b": 28})
    return figure
