"""How figures are drawn: colours that any eye tells apart, axes that fit a phone, and no more points than can be seen."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from frostline.records import Configuration, Direction, Value

# Okabe and Ito's colours, which people with any colour vision tell apart.
BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY, BLACK = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#000000",
)
GREY = "#8A8A8A"
COLOURS = (BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY, BLACK)
# For those who print.
_MARKS = ("circle", "square", "diamond", "triangle-up", "x", "cross", "star")
SCALE = "Cividis"
HEIGHT = 400
SMALL_HEIGHT = 230

# Up to so many layers, each has its number on the axis; more would not fit on a narrow screen.
_NUMBERED_LAYERS = 12

# Beyond so many times the distance of nine tenths of the scores from the best, a score is left outside the frame.
_FRAME = 1.6
_AXIS = {
    "showline": True,
    "linecolor": "#666",
    "ticks": "outside",
    "tickcolor": "#666",
    "gridcolor": "#e4e4e4",
    "zeroline": False,
    "automargin": True,
}

_Item = TypeVar("_Item")


def new_figure(*, x: str = "", y: str = "", height: int = HEIGHT, legend: bool = True) -> Any:
    """Return a figure without data, whose axes are called ``x`` and ``y``."""
    # Slow to import, and wanted by few commands.
    from plotly import graph_objects

    figure = graph_objects.Figure()
    dress(figure, x=x, y=y, height=height)
    figure.update_layout(showlegend=legend)
    return figure


def dress(figure: Any, *, x: str, y: str, height: int) -> None:
    """Give a figure the look of the page, room for its legend, and axes that are called ``x`` and ``y``."""
    figure.update_layout(
        template="none",
        height=height,
        width=None,
        title=None,
        autosize=True,
        font={"size": 12, "family": "system-ui, sans-serif", "color": "#222"},
        paper_bgcolor="white",
        plot_bgcolor="white",
        hoverlabel={"align": "left"},
        # The legend lies above: below, it would be in the way of the axis where the page is narrow.
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0, "font": {"size": 12}},
        margin={"l": 50, "r": 12, "t": 12, "b": 45},
    )
    figure.update_xaxes(**_AXIS, title={"text": safe(x), "standoff": 8})
    figure.update_yaxes(**_AXIS, title={"text": safe(y), "standoff": 8})


def layers_figure(unit: str, layers: Sequence[int]) -> Any:
    """Return a figure without data, of something in ``unit`` against numbers of trained layers."""
    figure = new_figure(x="trained layers", y=unit)
    number_layers(figure, layers)
    figure.update_yaxes(rangemode="tozero")
    return figure


def number_layers(figure: Any, layers: Sequence[int]) -> None:
    """Number the figure's axis of trained layers in whole layers."""
    figure.update_xaxes(tickformat="d", dtick=1 if max(layers, default=0) <= _NUMBERED_LAYERS else None)


def line_style(position: int) -> dict[str, Any]:
    """Return how the line at ``position`` among others is drawn: its own colour and mark."""
    colour, mark = COLOURS[position % len(COLOURS)], _MARKS[position % len(_MARKS)]
    return {
        "mode": "lines+markers",
        "line": {"color": colour},
        "marker": {"color": colour, "symbol": mark, "size": 8},
    }


def error_bars(low: NDArray[np.float64], value: NDArray[np.float64], high: NDArray[np.float64]) -> dict[str, Any]:
    """Return, as plotly wants them, bars from ``low`` to ``high`` around ``value``."""
    return {
        "type": "data",
        "symmetric": False,
        "array": (high - value).tolist(),
        "arrayminus": (value - low).tolist(),
        "thickness": 1,
        "width": 3,
    }


def scale_colours(number: int, scale: str = SCALE) -> list[str]:
    """Return so many colours in an order that the eye follows, from dark to light."""
    from plotly.colors import sample_colorscale

    # The lightest are lost on white paper.
    return list(sample_colorscale(scale, [0.85 * index / max(1, number - 1) for index in range(number)]))


def safe(text: str) -> str:
    """Return text as a figure may show it: plotly reads tags in it."""
    # Quotes stay: plotly knows no &quot; and would show it as it is.
    return html.escape(text, quote=False)


def shown(value: Value) -> str:
    """Return a hyperparameter's value as text."""
    return f"{value:.4g}" if isinstance(value, float) else f"{value}"


def configuration_hover(title: str, configuration: Configuration) -> str:
    """Return what a configuration's point says when it is pointed at: ``title``, which is safe, and its values."""
    return "<br>".join([title, *(f"{safe(name)} {safe(shown(value))}" for name, value in configuration.items())])


def short(number: int) -> str:
    """Return a count of samples in few letters."""
    for limit, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= limit:
            return f"{number / limit:.3g}{letter}"
    return f"{number}"


def better(direction: Direction) -> str:
    """Return in words which scores are better."""
    return "lower is better" if direction == "minimize" else "higher is better"


def thinned(items: Sequence[_Item], most: int) -> list[_Item]:
    """Return at most ``most`` of ``items``, evenly, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[int(index)] for index in np.linspace(0, len(items) - 1, most).round()]


def frame(scores: Sequence[float] | NDArray[np.float64], direction: Direction) -> tuple[float, float] | None:
    """Return the range that an axis of ``scores`` should show; None for all of them.

    A few trainings that nearly diverged would press all others into one line.
    """
    losses = np.sort(_finite(scores))
    if direction == "maximize":
        losses = -losses[::-1]
    if losses.size < 5:
        return None
    best, most = losses[0], losses[int(0.9 * (losses.size - 1))]
    limit = best + _FRAME * (most - best)
    if most == best or losses[-1] <= limit:
        return None
    margin = 0.04 * (limit - best)
    low, high = float(best - margin), float(limit)
    return (low, high) if direction == "minimize" else (-high, -low)


def show_frame(figure: Any, limits: tuple[float, float] | None) -> None:
    """Let the figure's scores, upwards, be shown between ``limits``; None for all of them."""
    if limits is not None:
        figure.update_yaxes(range=list(limits))


def num_outside(scores: Sequence[float] | NDArray[np.float64], limits: tuple[float, float] | None) -> int:
    """Return how many finite scores lie outside ``limits``."""
    if limits is None:
        return 0
    finite = _finite(scores)
    return int(((finite < limits[0]) | (finite > limits[1])).sum())


def outside_words(count: int) -> str:
    """Return in words how many scores a frame leaves out."""
    if count == 0:
        return ""
    scores = "1 far worse score lies" if count == 1 else f"{count} far worse scores lie"
    return f" {scores} outside the frame; a double click shows all."


def _finite(scores: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    array = np.asarray(scores, dtype=np.float64)
    return array[np.isfinite(array)]
