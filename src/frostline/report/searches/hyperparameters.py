"""Where the good values of hyperparameters lie: Optuna's own figures, in the look of the page."""

from __future__ import annotations

import html
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from frostline.pages.drawing import (
    SCALE,
    SMALL_HEIGHT,
    frame,
    num_outside,
    outside_words,
    restyle,
    safe,
    show_frame,
    thinned,
)
from frostline.pages.parts import Figure, Multiples, Note, Section
from frostline.report.searches.importance import cut
from frostline.report.searches.scored import Scored, safe_names

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

    from frostline.records import Configuration, Value

_MOST_POINTS = 800

_LONGEST_CHOICE = 14

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
    names = safe_names(list(scored.space.distributions))
    study = few.study(names)
    figures = [
        Figure(_slice_figure(study, safe_name, limits), f"Points: the score against {name}.", caption=name)
        for name, safe_name in names.items()
    ]
    return Section(heading, [Note(text), Multiples(figures, is_small=True)])


def edge_warnings(scored: Scored | None, best: Configuration) -> list[str]:
    """Return a sentence for each hyperparameter whose best value lies at the end of its range."""
    if scored is None:
        return []
    sentences = []
    for name, distribution in scored.space.distributions.items():
        end = _end(distribution, best.get(name))
        if end:
            sentences.append(
                f"The best {name}, {best[name]:.4g}, lies at the {end} end of its range: a better one may lie beyond. "
                f"Widen the range and search again."
            )
    return sentences


def _end(distribution: BaseDistribution, value: Value) -> str:
    if isinstance(distribution, CategoricalDistribution) or isinstance(value, str | bool) or value is None:
        return ""
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = float(distribution.low), float(distribution.high)
    place = (float(value) - low) / (high - low) if high > low else 0.5
    if distribution.log:
        place = math.log(float(value) / low) / math.log(high / low) if high > low else 0.5
    return "lower" if place < _EDGE else "upper" if place > 1 - _EDGE else ""


def _slice_figure(study: Any, name: str, limits: tuple[float, float] | None) -> Any:
    from optuna.visualization import plot_slice

    figure = plot_slice(study, params=[name], target_name="score")
    restyle(figure, height=SMALL_HEIGHT)
    figure.update_traces(
        marker={
            "showscale": False,
            "colorscale": SCALE,
            "reversescale": True,
            "size": 7,
            "line": {"width": 0.5},
        }
    )
    axis = figure.layout.xaxis
    if axis.type == "log":
        # Between decades there is no room for numbers, and of many decades not for each.
        decades = math.log10(max(figure.data[0].x) / min(figure.data[0].x)) if len(figure.data[0].x) else 1
        figure.update_xaxes(dtick=max(1, math.ceil(decades / 2)), exponentformat="power", tickangle=0)
    elif axis.type == "category":
        _name_categories(figure)
    else:
        figure.update_xaxes(nticks=5)
    figure.update_xaxes(title=None)
    figure.update_yaxes(title=None, nticks=6)
    show_frame(figure, limits)
    figure.update_layout(showlegend=False, margin={"l": 32, "r": 8, "t": 6, "b": 28})
    return figure


def _name_categories(figure: Any) -> None:
    """Write choices as they are called, without the quotes that Optuna puts around strings."""
    categories = list(figure.layout.xaxis.categoryarray)
    names = [name[1:-1] if name[:1] in "'\"" and name[-1:] == name[:1] else name for name in categories]
    # Cut before escaped: half an entity would be read as text.
    short = [safe(cut(html.unescape(name), _LONGEST_CHOICE, mark="…")) for name in names]
    figure.update_xaxes(tickvals=categories, ticktext=short, range=[-0.5, len(categories) - 0.5])
