"""Scores over the grid: curves per number of layers, scores against layers at equal samples, low against full fidelity."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from frostline.pages.drawing import (
    BLUE,
    SMALL_HEIGHT,
    better,
    configuration_hover,
    error_bars,
    frame,
    new_figure,
    num_outside,
    number_layers,
    outside_words,
    scale_colours,
    show_frame,
    thinned,
)
from frostline.pages.parts import Chooser, Figure, Folded, Multiples, Note, Section
from frostline.report.audits.shares import budget_table, shares
from frostline.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from frostline.audit.agreement import Agreement
    from frostline.audit.landscape import Landscape

    Array = NDArray[np.float64]

_MOST_PANELS = 12
_MOST_LINES = 6
_MOST_POINTS = 400
_MARKS = ("circle", "square", "diamond", "triangle-up", "x", "cross", "star", "triangle-down")


def curves_section(landscape: Landscape) -> Section:
    """Return the median score and its spread over samples, one line for each number of layers."""
    heading = "Scores along training, for each number of layers"
    if not np.isfinite(landscape.scores).any():
        return Section(heading, [Note("Nothing to draw: no training has a score.")])
    figure = new_figure(x=landscape.sample_unit, y=landscape.score_name)
    figure.update_xaxes(rangemode="tozero", exponentformat="SI", nticks=7)
    quartiles = _quartiles(landscape.scores)
    chosen = _spread(len(landscape.layers), _MOST_LINES)
    colours = _colours(len(chosen))
    # More than two bands hide each other.
    for position in sorted({0, len(chosen) - 1}):
        low, _, high = quartiles[:, chosen[position]]
        band = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
        figure.add_scatter(x=landscape.samples, y=low.tolist(), **band)
        figure.add_scatter(
            x=landscape.samples, y=high.tolist(), fill="tonexty", fillcolor=_faint(colours[position]), **band
        )
    for position, z in enumerate(chosen):
        low, median, high = quartiles[:, z]
        figure.add_scatter(
            x=landscape.samples,
            y=median.tolist(),
            customdata=np.stack([low, high], axis=1).tolist(),
            name=counted(landscape.layers[z], "layer"),
            mode="lines+markers",
            line={"color": colours[position], "width": 2},
            marker={"symbol": _MARKS[position % len(_MARKS)], "size": 7},
            hovertemplate="%{x:,}: median %{y:.4g}, quartiles %{customdata[0]:.4g} to %{customdata[1]:.4g}",
        )
    figure.update_layout(legend_traceorder="normal")
    # A few cells that hardly learned must not press all others into one line.
    show_frame(figure, frame(quartiles.ravel(), landscape.direction))
    text = (
        f"Median over {landscape.num_configurations} configurations; the bands hold the middle half, for the fewest layers "
        f"and for all. {better(landscape.direction).capitalize()}. {_schedule(landscape)}{_diverged(landscape)}"
    )
    medians = Folded("The medians as a table", budget_table(landscape, quartiles[1], ".4g"))
    return Section(heading, [Note(text), Figure(figure, f"Lines: {text}"), medians])


def layers_section(landscape: Landscape) -> Section:
    """Return the median score against the number of layers, one line for each budget."""
    heading = "Scores against layers, at equal samples"
    if not np.isfinite(landscape.scores).any():
        return Section(heading, [Note("Nothing to draw: no training has a score.")])
    figure = new_figure(x="trained layers", y=landscape.score_name)
    number_layers(figure, landscape.layers)
    quartiles = _quartiles(landscape.scores)
    budgets = shares(landscape)
    chosen = _spread(len(budgets), _MOST_LINES)
    colours = _colours(len(chosen))
    for position, s in enumerate(chosen):
        low, median, high = quartiles[:, :, s]
        figure.add_scatter(
            # Beside each other, or their bars would hide each other.
            x=[z + 0.3 * ((position + 0.5) / len(chosen) - 0.5) for z in landscape.layers],
            y=median.tolist(),
            customdata=landscape.layers,
            name=budgets[s],
            mode="lines+markers",
            line={"color": colours[position], "width": 2},
            marker={"symbol": _MARKS[position % len(_MARKS)], "size": 8},
            error_y=error_bars(low, median, high),
            hovertemplate="%{customdata} layers: median %{y:.4g}",
        )
    show_frame(figure, frame(quartiles[:, :, chosen].ravel(), landscape.direction))
    text = (
        f"Each line is one budget of {landscape.sample_unit}, as a share of the full one; medians, bars from quartile to "
        f"quartile. {better(landscape.direction).capitalize()}. Where a line turns, fewer trained layers did better at that "
        f"budget."
    )
    return Section(heading, [Note(text), Figure(figure, f"Lines: {text}")])


def pairs_section(landscape: Landscape, agreement: Agreement | None) -> Section:
    """Return the score at each cell against the score at full fidelity, a panel for each number of layers."""
    heading = "Low fidelity against full"
    full = landscape.scores[:, -1, -1]
    if not np.isfinite(full).any():
        return Section(heading, [Note("Nothing to draw: no full training has a score.")])
    budgets = shares(landscape)
    start = len(budgets) // 2
    text = (
        f"A point is a configuration: across, its score with so few layers and {landscape.sample_unit}; up, its score when "
        f"trained in full. On a rising line the cell ranks as full training does. The last panel trains all layers."
    )
    panels = [
        _panel(landscape, agreement, z, start=start, budgets=budgets)
        for z in _spread(len(landscape.layers), _MOST_PANELS)
    ]
    choice = f"{landscape.sample_unit.capitalize()}, of the full budget:"
    return Section(
        heading,
        [
            Note(text + outside_words(num_outside(full, frame(full, landscape.direction)))),
            Chooser(text=choice, choices=budgets, chosen=start, name="pairs"),
            Multiples(panels, is_small=True, name="pairs"),
        ],
    )


def _panel(
    landscape: Landscape, agreement: Agreement | None, z: int, *, start: int, budgets: Sequence[str]
) -> Figure:
    layers = landscape.layers[z]
    figure = new_figure(height=SMALL_HEIGHT, legend=False)
    figure.update_layout(margin={"l": 32, "r": 8, "t": 4, "b": 26})
    full = landscape.scores[:, -1, -1]
    captions = []
    for s, budget in enumerate(budgets):
        cell = landscape.scores[:, z, s]
        drawn = thinned(np.flatnonzero(np.isfinite(cell) & np.isfinite(full)).tolist(), _MOST_POINTS)
        figure.add_scatter(
            x=cell[drawn].tolist(),
            y=full[drawn].tolist(),
            mode="markers",
            marker={"color": BLUE, "size": 7, "opacity": 0.75, "line": {"color": "white", "width": 0.5}},
            visible=s == start,
            meta={"choice": s},
            hoverinfo="text",
            hovertext=[_hover(landscape, index, z, s) for index in drawn],
        )
        ranks = "" if agreement is None else f", ρ {agreement.spearman.value[z, s]:.2f}"
        captions.append(f"{counted(layers, 'layer')}, {budget}{ranks}")
    show_frame(figure, frame(full, landscape.direction))
    figure.update_xaxes(nticks=4)
    figure.update_yaxes(nticks=5)
    label = f"Points: score with {counted(layers, 'layer')} trained against score in full training."
    return Figure(figure, label, caption=captions[start], captions=captions)


def _hover(landscape: Landscape, index: int, z: int, s: int) -> str:
    configuration, scores = landscape.configurations[index], landscape.scores[index]
    title = f"configuration {configuration.number}: {scores[z, s]:.4g}, in full {scores[-1, -1]:.4g}"
    return configuration_hover(title, configuration)


def _quartiles(scores: Array) -> Array:
    """Return the quartiles over configurations, (3, Z, S); a diverged one is left out, NaN where all are."""
    finite = np.where(np.isfinite(scores), scores, np.nan)
    known = np.isfinite(scores).any(axis=0)
    quartiles = np.full((3, *known.shape), np.nan)
    quartiles[:, known] = np.nanquantile(finite[:, known], [0.25, 0.5, 0.75], axis=0)
    return quartiles


def _spread(count: int, most: int) -> list[int]:
    return thinned(range(count), most)


def _colours(count: int) -> list[str]:
    return scale_colours(count, "Viridis")


def _faint(colour: str) -> str:
    return colour.replace("rgb(", "rgba(").replace(")", ", 0.13)")


def _schedule(landscape: Landscape) -> str:
    if landscape.horizon == "full":
        return "The learning-rate schedule is that of the full training, cut short."
    return "The learning-rate schedule ends at each budget."


def _diverged(landscape: Landscape) -> str:
    count = int(np.isnan(landscape.scores).sum())
    return f" {count} cells of single configurations diverged and are left out." if count else ""
