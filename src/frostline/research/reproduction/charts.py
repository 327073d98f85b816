"""The kinds of plotly figures that the paper's are of, for pages that are read on any screen and in print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frostline.pages.drawing import SCALE, VERMILLION, dress, error_bars, line_style, new_figure

if TYPE_CHECKING:
    from frostline.audit.landscape import Landscape
    from frostline.statistics.bootstrap import Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A path over cells of a landscape, given by their indices (layers, samples)."""

    name: str
    cells: tuple[tuple[int, int], ...]
    dash: str = "solid"


def panels(titles: Sequence[str], x_title: str, y_title: str, *, columns: int = 2) -> Any:
    """Return a figure of several panels without data, row after row."""
    from plotly.subplots import make_subplots

    rows = -(-len(titles) // columns)
    figure = make_subplots(rows=rows, cols=columns, subplot_titles=list(titles), vertical_spacing=0.2 / rows)
    dress(figure, x=x_title, y=y_title, height=80 + 320 * rows)
    # Room for the panels' titles.
    figure.update_layout(margin={"t": 60}, legend={"y": 1.05})
    return figure


def place(position: int, *, columns: int = 2) -> dict[str, int]:
    """Return where the panel at ``position`` lies, as plotly wants it."""
    return {"row": position // columns + 1, "col": position % columns + 1}


def lines_with_intervals(
    lines: Mapping[str, tuple[Sequence[float], Estimate]], *, x_title: str, y_title: str
) -> Any:
    """Return a figure of named lines, (x, estimates over x), each with its intervals as bars."""
    figure = new_figure(x=x_title, y=y_title)
    for position, (name, (x, estimate)) in enumerate(lines.items()):
        bars = error_bars(estimate.low, estimate.value, estimate.high)
        figure.add_scatter(x=list(x), y=list(estimate.value), error_y=bars, name=name, **line_style(position))
    return figure


def heat_map(
    landscape: Landscape,
    values: Any,
    *,
    unit: str,
    traces: Sequence[Trace] = (),
    limits: tuple[float, float] | None = None,
) -> Any:
    """Return a heat map of ``values`` (Z, S) over layers and samples, with paths drawn into it; NaN stays white."""
    x = [f"{100 * samples / landscape.samples[-1]:.0f} %" for samples in landscape.samples]
    y = [f"{layers}" for layers in landscape.layers]
    figure = new_figure(x=f"share of {landscape.sample_unit}", y="trained layers")
    low, high = limits or (None, None)
    figure.add_heatmap(
        x=x, y=y, z=[list(row) for row in values], colorscale=SCALE, zmin=low, zmax=high, colorbar={"title": unit}
    )
    figure.update_xaxes(type="category")
    figure.update_yaxes(type="category", showgrid=False)
    for trace in traces:
        figure.add_scatter(
            x=[x[s] for _, s in trace.cells],
            y=[y[z] for z, _ in trace.cells],
            name=trace.name,
            mode="lines+markers",
            line={"color": VERMILLION, "dash": trace.dash, "width": 3},
            marker={"color": VERMILLION, "size": 10, "line": {"color": "#ffffff", "width": 1.5}},
        )
    return figure
