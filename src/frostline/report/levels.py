"""Scores over the grid: curves per number of layers, scores against layers at equal samples, low against full fidelity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from frostline.pages.drawing import (
    BLUE,
    SMALL_HEIGHT,
    better,
    frame,
    new_figure,
    num_outside,
    outside_words,
    safe,
    shown,
    thinned,
)
from frostline.pages.page import Section, chooser, drawn, folded, multiples, note, table
from frostline.report.maps import share
from frostline.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from frostline.audit.agreement import Agreement
    from frostline.audit.landscape import Landscape
    from frostline.records import Direction

    Array = NDArray[np.float64]

_MOST_PANELS = 12
_MOST_LINES = 6
_MOST_POINTS = 400
_MARKS = ("circle", "square", "diamond", "triangle-up", "x", "cross", "star", "triangle-down")


def curves_section(landscape: Landscape) -> Section:
    """Return the median score and its spread over samples, one line for each number of layers."""
    figure = new_figure(x=landscape.sample_unit, y="score")
    figure.update_xaxes(rangemode="tozero", exponentformat="SI", nticks=7)
    quartiles = _quartiles(landscape.scores)
    chosen = _spread(len(landscape.layers), _MOST_LINES)
    colours = _colours(len(chosen))
    for position, z in enumerate(chosen):
        if position not in (0, len(chosen) - 1):
            # More than two bands hide each other.
            continue
        low, _, high = quartiles[:, z]
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
    _limit(figure, quartiles, landscape.direction)
    text = (
        f"Median over {landscape.num_configurations} configurations; the bands hold the middle half, for the fewest layers "
        f"and for all. {better(landscape.direction).capitalize()}. {_schedule(landscape)}{_diverged(landscape)}"
    )
    rows = [
        (f"{layers}", *(f"{median:.4g}" for median in quartiles[1, z]))
        for z, layers in enumerate(landscape.layers)
    ]
    header = ("layers", *(share(landscape, s) for s in range(len(landscape.samples))))
    return Section(
        heading="Scores along training, for each number of layers",
        parts=(note(text), drawn(figure, f"Lines: {text}"), folded("The medians as a table", table(header, rows))),
    )


def layers_section(landscape: Landscape) -> Section:
    """Return the median score against the number of layers, one line for each budget."""
    figure = new_figure(x="trained layers", y="score")
    figure.update_xaxes(tickformat="d", dtick=1 if len(landscape.layers) <= 12 else None)
    quartiles = _quartiles(landscape.scores)
    chosen = _spread(len(landscape.samples), _MOST_LINES)
    colours = _colours(len(chosen))
    for position, s in enumerate(chosen):
        low, median, high = quartiles[:, :, s]
        figure.add_scatter(
            # Beside each other, or their bars would hide each other.
            x=[z + 0.3 * ((position + 0.5) / len(chosen) - 0.5) for z in landscape.layers],
            y=median.tolist(),
            customdata=landscape.layers,
            name=share(landscape, s),
            mode="lines+markers",
            line={"color": colours[position], "width": 2},
            marker={"symbol": _MARKS[position % len(_MARKS)], "size": 8},
            error_y={
                "type": "data",
                "symmetric": False,
                "array": (high - median).tolist(),
                "arrayminus": (median - low).tolist(),
                "thickness": 1,
                "width": 3,
            },
            hovertemplate="%{customdata} layers: median %{y:.4g}",
        )
    _limit(figure, quartiles[:, :, chosen], landscape.direction)
    text = (
        f"Each line is one budget of {landscape.sample_unit}, as a share of the full one; medians, bars from quartile to "
        f"quartile. {better(landscape.direction).capitalize()}. Where a line turns, fewer trained layers did better at that "
        f"budget."
    )
    return Section(
        heading="Scores against layers, at equal samples", parts=(note(text), drawn(figure, f"Lines: {text}"))
    )


def pairs_section(landscape: Landscape, agreement: Agreement | None) -> Section:
    """Return the score at each cell against the score at full fidelity, a panel for each number of layers."""
    budgets = [share(landscape, s) for s in range(len(landscape.samples))]
    start = len(budgets) // 2
    text = (
        f"A point is a configuration: across, its score with so few layers and {landscape.sample_unit}; up, its score when "
        f"trained in full. On a rising line the cell ranks as full training does. The last panel trains all layers."
    )
    full = landscape.scores[:, -1, -1]
    if not np.isfinite(full).any():
        text = "Nothing to draw: no full training has a score."
        return Section(heading="Low fidelity against full", parts=(note(text),))
    panels = [
        _panel(landscape, agreement, z, start=start, budgets=budgets)
        for z in _spread(len(landscape.layers), _MOST_PANELS)
    ]
    parts = (
        note(text + outside_words(num_outside(full, frame(full, landscape.direction)))),
        chooser(f"{landscape.sample_unit.capitalize()}, of the full budget:", budgets, chosen=start, name="pairs"),
        multiples(panels, small=True, name="pairs"),
    )
    return Section(heading="Low fidelity against full", parts=parts)


def _panel(
    landscape: Landscape, agreement: Agreement | None, z: int, *, start: int, budgets: Sequence[str]
) -> str:
    layers = landscape.layers[z]
    figure = new_figure(height=SMALL_HEIGHT, legend=False)
    figure.update_layout(margin={"l": 32, "r": 8, "t": 4, "b": 26})
    full = landscape.scores[:, -1, -1]
    captions = []
    for s, budget in enumerate(budgets):
        cell = landscape.scores[:, z, s]
        told = [int(index) for index in np.flatnonzero(np.isfinite(cell) & np.isfinite(full))]
        told = thinned(told, _MOST_POINTS)
        figure.add_scatter(
            x=cell[told].tolist(),
            y=full[told].tolist(),
            mode="markers",
            marker={"color": BLUE, "size": 7, "opacity": 0.75, "line": {"color": "white", "width": 0.5}},
            visible=s == start,
            meta={"choice": s},
            hoverinfo="text",
            hovertext=[_hover(landscape, index, z, s) for index in told],
        )
        ranks = "" if agreement is None else f", ρ {agreement.spearman.value[z, s]:.2f}"
        captions.append(f"{counted(layers, 'layer')}, {budget}{ranks}")
    limits = frame(full, landscape.direction)
    if limits is not None:
        figure.update_yaxes(range=list(limits))
    figure.update_xaxes(nticks=4)
    figure.update_yaxes(nticks=5)
    label = f"Points: score with {layers} layers trained against score in full training."
    return drawn(figure, label, caption=captions[start], captions=captions)


def _hover(landscape: Landscape, index: int, z: int, s: int) -> str:
    configuration = landscape.configurations[index]
    values = [f"{safe(name)} {safe(shown(value))}" for name, value in configuration.items()]
    scores = landscape.scores[index]
    return "<br>".join(
        [f"configuration {configuration.number}: {scores[z, s]:.4g}, in full {scores[-1, -1]:.4g}", *values]
    )


def _quartiles(scores: Array) -> Array:
    """Return the quartiles over configurations, (3, Z, S); a diverged one is left out, NaN where all are."""
    found = np.full((3, *scores.shape[1:]), np.nan)
    told = np.isfinite(scores).any(axis=0)
    found[:, told] = np.nanquantile(
        np.where(np.isfinite(scores), scores, np.nan)[:, told], [0.25, 0.5, 0.75], axis=0
    )
    return found


def _limit(figure: Any, quartiles: Array, direction: Direction) -> None:
    """Let a few cells that hardly learned not press all others into one line."""
    limits = frame(quartiles.ravel(), direction)
    if limits is not None:
        figure.update_yaxes(range=list(limits))


def _spread(count: int, most: int) -> list[int]:
    return thinned(range(count), most)


def _colours(count: int) -> list[str]:
    from plotly.colors import sample_colorscale

    # The yellow end of the scale is too light for lines on white.
    places = np.linspace(0.0, 0.85, count).tolist() if count > 1 else [0.3]
    return list(sample_colorscale("Viridis", places))


def _faint(colour: str) -> str:
    return colour.replace("rgb(", "rgba(").replace(")", ", 0.13)")


def _schedule(landscape: Landscape) -> str:
    if landscape.horizon == "full":
        return "The learning-rate schedule is that of the full training, cut short."
    return "The learning-rate schedule ends at each budget."


def _diverged(landscape: Landscape) -> str:
    count = int(np.isnan(landscape.scores).sum())
    return f" {count} cells of single configurations diverged and are left out." if count else ""
