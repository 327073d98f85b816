"""Memory and time per step against the number of trained layers, as one page that needs nothing else.

In the manner of figures 2, 3 and 9 of Carstensen et al. 2025, arXiv:2504.10735.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from frostline.costs.measurement import FailedStep
from frostline.costs.tables import failure_lines, full_costs

if TYPE_CHECKING:
    from frostline.costs.step_cost import StepCost
    from frostline.costs.tables import Circumstances, CostRow

# Okabe and Ito's colours, which people with any colour vision tell apart; and marks, for those who print.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")
_MARKS = ("circle", "square", "diamond", "triangle-up", "x", "cross", "star")
_KINDS = (
    ("parameters", "parameters"),
    ("gradients", "gradients"),
    ("optimizer_state", "optimizer state"),
    ("activations", "activations"),
    ("rest", "rest"),
)
_MIB = 2**20
_HEIGHT = 420
# Up to so many layers, each has its number on the axis; more would not fit on a narrow screen.
_NUMBERED_LAYERS = 12
_STYLE = (
    "body{font-family:system-ui,sans-serif;color:#222;max-width:60rem;margin:1rem auto;padding:0 .5rem}"
    "h1{font-size:1.3rem;overflow-wrap:anywhere}h2{font-size:1.05rem;margin:1.5rem 0 .2rem}p{font-size:.9rem;margin:.2rem 0}"
)


def cost_page(rows: Sequence[CostRow], circumstances: Circumstances) -> str:
    """Return an HTML page of figures: the peak, its kinds at every batch size, time or FLOPs; and what failed."""
    costs = sorted(
        (row for row in rows if not isinstance(row, FailedStep)), key=lambda cost: cost.trainable_layers
    )
    sizes = sorted({cost.batch_size for cost in costs})
    sections: list[tuple[str, str, Any]] = []
    if costs:
        sections.append(("Peak memory of a step", "", _peak_figure(costs, sizes)))
    if any(cost.seconds is not None for cost in costs):
        note = "Bars: the quartiles' distance, half to each side. Dashed: full training's time, by the share of FLOPs."
        sections.append(("Time of a step", note, _time_figure(costs, sizes)))
    if costs:
        sections.append(("FLOPs of a step", "", _flops_figure(costs, sizes)))
    note = (
        "Parameters are all of the model's, frozen ones too. The kinds may stand higher than the peak: gradients take the "
        "place of activations that are freed."
    )
    for size in sizes:
        of_size = [cost for cost in costs if cost.batch_size == size]
        sections.append((f"Memory by kind, batch size {size}", note, _memory_figure(of_size)))
    failed = [f"<p>{html.escape(line)}</p>" for line in failure_lines(rows)]
    return html_page(
        f"What a step of {circumstances.task} costs",
        f"{circumstances}",
        sections,
        end=["<h2>Steps that failed</h2>", *failed] if failed else (),
    )


def html_page(
    title: str,
    note: str,
    sections: Sequence[tuple[str, str, Any]],
    *,
    start: Sequence[str] = (),
    end: Sequence[str] = (),
) -> str:
    """Return a page of sections, each a heading, a note and a plotly figure, which needs nothing else.

    ``start`` and ``end`` are lines of HTML before and after them.
    """
    title = html.escape(title)
    parts = [
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>',
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>',
        f"<h1>{title}</h1><p>{html.escape(note)}</p>",
        *start,
    ]
    for position, (heading, remark, figure) in enumerate(sections):
        # The page holds plotly's script once, with its first figure.
        drawn = figure.to_html(
            full_html=False,
            include_plotlyjs=position == 0,
            config={"responsive": True, "displaylogo": False, "displayModeBar": False},
            div_id=f"figure-{position}",
        )
        parts.append(f"<h2>{html.escape(heading)}</h2><p>{html.escape(remark)}</p>{drawn}")
    return "\n".join([*parts, *end, "</body></html>\n"])


def _peak_figure(costs: Sequence[StepCost], sizes: Sequence[int]) -> Any:
    figure = empty_figure("MiB at the peak", _layers(costs))
    for position, size in enumerate(sizes):
        of_size = [cost for cost in costs if cost.batch_size == size]
        peaks = [cost.memory.peak / _MIB for cost in of_size]
        figure.add_scatter(x=_layers(of_size), y=peaks, name=f"batch {size}", **line_style(position))
    return figure


def _time_figure(costs: Sequence[StepCost], sizes: Sequence[int]) -> Any:
    figure = empty_figure("milliseconds per step", _layers(costs))
    full = full_costs(costs)
    for position, size in enumerate(sizes):
        timed = [(cost, cost.seconds.whole) for cost in costs if cost.batch_size == size and cost.seconds]
        of_size = [cost for cost, _ in timed]
        bars = {
            "type": "data",
            "array": [500 * seconds.spread for _, seconds in timed],
            "thickness": 1,
            "width": 3,
        }
        figure.add_scatter(
            x=_layers(of_size),
            y=[1e3 * seconds.median for _, seconds in timed],
            error_y=bars,
            name=f"batch {size}",
            **line_style(position),
        )
        whole = full.get((size, False))
        if whole is not None and whole.seconds is not None and whole.flops:
            milliseconds = 1e3 * whole.seconds.whole.median
            figure.add_scatter(
                x=_layers(of_size),
                y=[milliseconds * cost.flops / whole.flops for cost in of_size],
                mode="lines",
                line={"color": _COLOURS[position % len(_COLOURS)], "dash": "dash", "width": 1.5},
                name=f"batch {size}, by FLOPs",
                showlegend=False,
            )
    return figure


def _flops_figure(costs: Sequence[StepCost], sizes: Sequence[int]) -> Any:
    figure = empty_figure("GFLOP per step", _layers(costs))
    for position, size in enumerate(sizes):
        of_size = [cost for cost in costs if cost.batch_size == size]
        flops = [cost.flops / 1e9 for cost in of_size]
        figure.add_scatter(x=_layers(of_size), y=flops, name=f"batch {size}", **line_style(position))
    return figure


def _memory_figure(costs: Sequence[StepCost]) -> Any:
    figure = empty_figure("MiB", _layers(costs))
    figure.update_layout(barmode="stack", bargap=0.15, height=_HEIGHT + 80)
    for colour, (kind, name) in zip(_COLOURS, _KINDS, strict=False):
        sizes = [getattr(cost.memory, kind) / _MIB for cost in costs]
        figure.add_bar(x=_layers(costs), y=sizes, name=name, marker_color=colour)
    peaks = [cost.memory.peak / _MIB for cost in costs]
    black = {"color": "#000000", "size": 9, "symbol": "line-ew-open", "line": {"width": 2.5}}
    figure.add_scatter(x=_layers(costs), y=peaks, name="peak", mode="markers", marker=black)
    return figure


def empty_figure(unit: str, layers: Sequence[int]) -> Any:
    """Return a figure without data, of something in ``unit`` against numbers of trained layers."""
    # Slow to import, and wanted by few commands.
    from plotly import graph_objects

    figure = graph_objects.Figure()
    # A narrow screen is mostly figure: the legend lies below it, and titles are the page's.
    figure.update_layout(
        template="simple_white",
        height=_HEIGHT,
        showlegend=True,
        margin={"l": 60, "r": 10, "t": 10, "b": 60},
        font={"size": 13},
        legend={"orientation": "h", "yanchor": "top", "y": -0.2, "x": 0},
    )
    step = 1 if max(layers) <= _NUMBERED_LAYERS else None
    figure.update_xaxes(title="trained layers", tickformat="d", dtick=step, automargin=True)
    figure.update_yaxes(title=unit, rangemode="tozero", showgrid=True, automargin=True)
    return figure


def _layers(costs: Sequence[StepCost]) -> list[int]:
    return [cost.trainable_layers for cost in costs]


def line_style(position: int) -> dict[str, Any]:
    """Return how the line at ``position`` among others is drawn: its own colour and mark."""
    colour, mark = _COLOURS[position % len(_COLOURS)], _MARKS[position % len(_MARKS)]
    return {
        "mode": "lines+markers",
        "line": {"color": colour},
        "marker": {"color": colour, "symbol": mark, "size": 8},
    }
