"""Maps over layers × samples: correlation, cost, thresholds, with the ladders drawn in."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from frostline.errors import LadderError
from frostline.pages.drawing import (
    BLACK,
    BLUE,
    HEIGHT,
    ORANGE,
    PURPLE,
    SCALE,
    SKY,
    VERMILLION,
    new_figure,
    safe,
    short,
)
from frostline.pages.parts import Key, Mark
from frostline.report.audits.shares import share
from frostline.search.ladder import Ladder
from frostline.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from frostline.audit.agreement import Agreement
    from frostline.audit.landscape import Landscape
    from frostline.audit.recommendation import Recommendation

    Array = NDArray[np.float64]

# Colour, mark, the same mark as text, width. Told apart on any map, and in print: by the mark too, and by a white edge.
_STYLES = {
    "recommended": (VERMILLION, "star", "★", 3.0),
    "diagonal": (PURPLE, "square", "■", 2.0),
    "samples-only": (ORANGE, "diamond", "◆", 2.0),
    "layers-only": (BLACK, "triangle-up", "▲", 2.0),
}

# More cells than this in a row have no room for numbers.
_MOST_NUMBERED = 16
_DARK, _LIGHT = "#1a1a1a", "#ffffff"


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnLadder:
    """A ladder and what it is called on the maps."""

    name: str
    ladder: Ladder


def ladders_of(landscape: Landscape, recommendation: Recommendation | None) -> tuple[DrawnLadder, ...]:
    """Return the ladders that maps show: the recommended one and those it was compared with, or those that know no audit."""
    if recommendation is not None:
        outcomes = (recommendation.chosen, *recommendation.compared)
        return tuple(
            DrawnLadder(name=outcome.name, ladder=outcome.ladder)
            for outcome in outcomes
            if outcome.name in _STYLES
        )
    full = landscape.full
    makers = {"diagonal": Ladder.diagonal, "samples-only": Ladder.samples_only, "layers-only": Ladder.layers_only}
    ladders = []
    for name, make in makers.items():
        # A model of two layers has no ladder of three rungs over layers.
        with suppress(LadderError):
            ladder = make(num_layers=full.trainable_layers, full_samples=full.samples)
            ladders.append(DrawnLadder(name=name, ladder=ladder))
    return tuple(ladders)


def ladder_key(ladders: Sequence[DrawnLadder]) -> Key:
    """Return the key to the ladders' marks."""
    styles = {drawn.name: _STYLES[drawn.name] for drawn in ladders}
    return Key(
        [Mark(symbol, colour, f"{name} ladder") for name, (colour, _, symbol, _) in styles.items()],
    )


def value_map(
    landscape: Landscape,
    values: Array,
    *,
    texts: Sequence[Sequence[str]],
    hovers: Sequence[Sequence[str]],
    limits: tuple[float, float],
    ladders: Sequence[DrawnLadder] = (),
    scale: str | list[str] = SCALE,
    height: int = HEIGHT,
) -> Any:
    """Return a map of ``values`` (Z, S) in colours between ``limits``, with a number in each cell."""
    figure = _map_figure(landscape, height=height)
    _add_cells(figure, values, hovers, limits=limits, scale=scale)
    _add_ladders(figure, landscape, ladders)
    # Last, so that a line does not strike a number out.
    _add_numbers(figure, texts, _ink(values, limits, scale), beside=bool(ladders))
    return figure


def threshold_map(
    landscape: Landscape, agreement: Agreement, threshold: float, ladders: Sequence[DrawnLadder]
) -> Any:
    """Return a map of where the rank correlation reaches ``threshold``: surely, by the estimate alone, or not."""
    figure = _map_figure(landscape, height=270)
    value, low = agreement.spearman.value, agreement.spearman.low
    classes = np.where(low >= threshold, 2.0, np.where(value >= threshold, 1.0, 0.0))
    # Each colour twice: a scale in steps.
    places = (0.0, 1 / 3, 1 / 3, 2 / 3, 2 / 3, 1.0)
    colours = ("#EDEDED", "#EDEDED", SKY, SKY, BLUE, BLUE)
    scale = list(zip(places, colours, strict=True))
    _add_cells(figure, classes, spearman_hovers(landscape, agreement), limits=(-0.5, 2.5), scale=scale)
    # Not by colour alone.
    marks = np.array(["", "~", "✓"])[classes.astype(int)]
    inks = np.where(classes == 2, _LIGHT, _DARK)
    _add_ladders(figure, landscape, ladders)
    _add_numbers(figure, marks.tolist(), inks.tolist(), beside=True)
    return figure


def threshold_key() -> Key:
    """Return the key to the threshold maps' colours."""
    return Key(
        [
            Mark("■", BLUE, "✓ reached, with the whole 95 % interval"),
            Mark("■", SKY, "~ reached by the estimate, not by the whole interval"),
            Mark("■", "#C8C8C8", "not reached"),
        ]
    )


def spearman_hovers(landscape: Landscape, agreement: Agreement) -> list[list[str]]:
    """Return what a cell says of its rank correlation when it is pointed at."""
    spearman = agreement.spearman
    return cell_texts(
        landscape,
        lambda z, s: (
            f"ρ = {spearman.value[z, s]:.3f}, 95 %: {spearman.low[z, s]:.3f} to {spearman.high[z, s]:.3f}"
            f"<br>{agreement.num_configurations} configurations"
        ),
    )


def cell_texts(landscape: Landscape, words: Callable[[int, int], str]) -> list[list[str]]:
    """Return, for every cell, its layers and samples, and below them ``words`` of its indices."""
    unit = safe(landscape.sample_unit)
    return [
        [
            f"{counted(layers, 'layer')}, {samples:,} {unit} ({share(landscape, s)})<br>{words(z, s)}"
            for s, samples in enumerate(landscape.samples)
        ]
        for z, layers in enumerate(landscape.layers)
    ]


def grid_of(values: Array, form: str) -> list[list[str]]:
    """Return an array (Z, S) as text, nothing where it is NaN."""
    return [["" if np.isnan(value) else format(float(value), form) for value in row] for row in values]


def _map_figure(landscape: Landscape, *, height: int) -> Any:
    figure = new_figure(
        x=f"{landscape.sample_unit}, of {short(landscape.samples[-1])}",
        y="trained layers",
        height=height,
        legend=False,
    )
    # Half of the last budget's number lies beyond its cell, which may be narrow, and plotly leaves out what has no room.
    figure.update_layout(margin={"r": 20})
    columns, rows = len(landscape.samples), len(landscape.layers)
    every = max(1, -(-columns // (5 if height == HEIGHT else 3)))
    ticks = [index for index in range(columns) if (columns - 1 - index) % every == 0]
    figure.update_xaxes(
        tickvals=ticks,
        ticktext=[share(landscape, index) for index in ticks],
        range=[-0.5, columns - 0.5],
        showgrid=False,
        showline=False,
        tickangle=0,
    )
    step = max(1, -(-rows // 12))
    chosen = [index for index in range(rows) if (rows - 1 - index) % step == 0]
    figure.update_yaxes(
        tickvals=chosen,
        ticktext=[f"{landscape.layers[index]}" for index in chosen],
        range=[-0.5, rows - 0.5],
        showgrid=False,
        showline=False,
    )
    return figure


def _add_cells(
    figure: Any, values: Array, hovers: Sequence[Sequence[str]], *, limits: tuple[float, float], scale: Any
) -> None:
    figure.add_heatmap(
        z=values.tolist(),
        zmin=limits[0],
        zmax=limits[1],
        colorscale=scale,
        showscale=False,
        hoverinfo="text",
        hovertext=[list(row) for row in hovers],
        xgap=1,
        ygap=1,
    )


def _add_numbers(
    figure: Any, texts: Sequence[Sequence[str]], inks: Sequence[Sequence[str]], *, beside: bool
) -> None:
    columns = len(texts[0])
    if columns > _MOST_NUMBERED:
        return
    cells = [(z, s) for z, row in enumerate(texts) for s in range(len(row))]
    figure.add_scatter(
        x=[s for _, s in cells],
        # Where ladders are drawn they take the upper half of a cell.
        y=[z - (0.22 if beside else 0.0) for z, _ in cells],
        text=[texts[z][s] for z, s in cells],
        mode="text",
        textfont={"size": 11, "color": [inks[z][s] for z, s in cells]},
        hoverinfo="skip",
        showlegend=False,
        meta={"columns": columns, "letters": max(len(text) for row in texts for text in row) or 1},
        cliponaxis=False,
    )


def _add_ladders(figure: Any, landscape: Landscape, ladders: Sequence[DrawnLadder]) -> None:
    unit = safe(landscape.sample_unit)
    for position, drawn in enumerate(reversed(ladders)):
        colour, symbol, _, width = _STYLES[drawn.name]
        # Beside each other where they meet, as all do at full fidelity.
        aside = (position - (len(ladders) - 1) / 2) * 0.17
        x = [_along(rung.samples, landscape.samples) + aside for rung in drawn.ladder.rungs]
        y = [_along(rung.trainable_layers, landscape.layers) + 0.2 for rung in drawn.ladder.rungs]
        figure.add_scatter(
            x=x, y=y, mode="lines", line={"color": "white", "width": 4}, hoverinfo="skip", opacity=0.8
        )
        figure.add_scatter(
            x=x,
            y=y,
            mode="lines+markers",
            name=drawn.name,
            line={"color": colour, "width": width},
            marker={"color": colour, "size": 11, "symbol": symbol, "line": {"color": "white", "width": 1}},
            hoverinfo="text",
            hovertext=[
                f"{drawn.name} ladder, rung {index}: {counted(rung.trainable_layers, 'layer')}, {rung.samples:,} {unit}"
                for index, rung in enumerate(drawn.ladder.rungs)
            ],
        )


def _along(value: int, axis: tuple[int, ...]) -> float:
    """Return where a value lies among the cells of an axis; between two cells if it was not measured."""
    return float(np.interp(value, axis, np.arange(len(axis))))


def _ink(values: Array, limits: tuple[float, float], scale: str | list[str]) -> list[list[str]]:
    """Return for each cell the ink that can be read on its colour."""
    from plotly.colors import sample_colorscale

    low, high = limits
    span = high - low or 1.0
    places = np.nan_to_num(np.clip((values - low) / span, 0.0, 1.0), nan=1.0)
    colours = (sample_colorscale(scale, row.tolist(), colortype="tuple") for row in places)
    return [[_DARK if 0.3 * r + 0.59 * g + 0.11 * b > 0.5 else _LIGHT for r, g, b in row] for row in colours]
