"""Memory and time per step against the number of trained layers, as one page that needs nothing else.

In the manner of figures 2, 3 and 9 of Carstensen et al. 2025, arXiv:2504.10735.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from frostline.costs.measurement import FailedStep
from frostline.costs.shown.cost_tables import failure_lines, full_costs
from frostline.pages.drawing import BLACK, COLOURS, HEIGHT, layers_figure, line_style
from frostline.pages.page import page
from frostline.pages.parts import Bullets, Note, Section, figure_section

if TYPE_CHECKING:
    from frostline.costs.shown.cost_tables import Circumstances, CostRow
    from frostline.costs.step_cost import StepCost

_KINDS = (
    ("parameters", "parameters"),
    ("gradients", "gradients"),
    ("optimizer_state", "optimizer state"),
    ("activations", "activations"),
    ("rest", "rest"),
)
_MIB = 2**20


def cost_page(rows: Sequence[CostRow], circumstances: Circumstances) -> str:
    """Return an HTML page of figures: the peak, its kinds at every batch size, time or FLOPs; and what failed."""
    costs = sorted(
        (row for row in rows if not isinstance(row, FailedStep)), key=lambda cost: cost.trainable_layers
    )
    sizes = sorted({cost.batch_size for cost in costs})
    sections = []
    if costs:
        sections.append(figure_section("Peak memory of a step", peak_figure(costs, sizes)))
    if any(cost.seconds is not None for cost in costs):
        note = "Bars: the quartiles' distance, half to each side. Dashed: full training's time, by the share of FLOPs."
        sections.append(figure_section("Time of a step", _time_figure(costs, sizes), note=note))
    if costs:
        sections.append(figure_section("FLOPs of a step", _flops_figure(costs, sizes)))
    note = (
        "Parameters are all of the model's, frozen ones too. The kinds may stand higher than the peak: gradients take the "
        "place of activations that are freed."
    )
    for size in sizes:
        figure = _memory_figure([cost for cost in costs if cost.batch_size == size])
        sections.append(figure_section(f"Memory by kind, batch size {size}", figure, note=note))
    failures = failure_lines(rows)
    if failures:
        sections.append(Section("Steps that failed", [Bullets(failures)]))
    return page(f"What a step of {circumstances.task} costs", [Note(f"{circumstances}")], sections)


def peak_figure(costs: Sequence[StepCost], sizes: Sequence[int]) -> Any:
    """Return a figure of the peak of memory, a line for each batch size."""
    return lines_figure(costs, sizes, "MiB at the peak", lambda cost: cost.memory.peak / _MIB)


def _flops_figure(costs: Sequence[StepCost], sizes: Sequence[int]) -> Any:
    return lines_figure(costs, sizes, "GFLOP per step", lambda cost: cost.flops / 1e9)


def lines_figure(
    costs: Sequence[StepCost], sizes: Sequence[int], unit: str, number: Callable[[StepCost], float]
) -> Any:
    """Return a figure of a ``number`` of each cost against the layers, a line for each batch size."""
    figure = layers_figure(unit, _layers(costs))
    for position, size in enumerate(sizes):
        of_size = [cost for cost in costs if cost.batch_size == size]
        if of_size:
            y = [number(cost) for cost in of_size]
            figure.add_scatter(x=_layers(of_size), y=y, name=f"batch {size}", **line_style(position))
    return figure


def _time_figure(costs: Sequence[StepCost], sizes: Sequence[int]) -> Any:
    figure = layers_figure("milliseconds per step", _layers(costs))
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
                line={"color": COLOURS[position % len(COLOURS)], "dash": "dash", "width": 1.5},
                name=f"batch {size}, by FLOPs",
                showlegend=False,
            )
    return figure


def _memory_figure(costs: Sequence[StepCost]) -> Any:
    figure = layers_figure("MiB", _layers(costs))
    figure.update_layout(barmode="stack", bargap=0.15, height=HEIGHT + 80)
    for colour, (kind, name) in zip(COLOURS, _KINDS, strict=False):
        sizes = [getattr(cost.memory, kind) / _MIB for cost in costs]
        figure.add_bar(x=_layers(costs), y=sizes, name=name, marker_color=colour)
    peaks = [cost.memory.peak / _MIB for cost in costs]
    black = {"color": BLACK, "size": 9, "symbol": "line-ew-open", "line": {"width": 2.5}}
    figure.add_scatter(x=_layers(costs), y=peaks, name="peak", mode="markers", marker=black)
    return figure


def _layers(costs: Sequence[StepCost]) -> list[int]:
    return [cost.trainable_layers for cost in costs]
