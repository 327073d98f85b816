"""The largest batch that fits at each fidelity into devices of several sizes: figure 6a."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.costs.capacity import MARGIN, Capacity
from frostline.pages.drawing import line_style, new_figure
from frostline.pages.parts import figure_section
from frostline.research.reproduction.reproduced import Finding, Reproduced, held
from frostline.research.reproduction.scales import Scale
from frostline.research.reproduction.steps import spread
from frostline.sizes import format_size
from frostline.tasks.loading import load_task

if TYPE_CHECKING:
    from frostline.research.reproduction.reproduced import Cell
    from frostline.research.reproduction.workbench import Workbench

MODEL = "600M"
MEMORIES = tuple(gibibytes * 2**30 for gibibytes in (4, 8, 24, 48, 80))

_FEW_LAYERS = 4


def numbers_of_layers(scale: Scale) -> int | None:
    """Return of how many numbers of layers the batch is looked for; None for all."""
    return _FEW_LAYERS if scale is Scale.TINY else None


def figure_6a(bench: Workbench) -> Reproduced:
    """The largest batch of the 600M model against trained layers, for devices of several sizes; all of it predicted."""
    capacity = Capacity(load_task("random-tokens", {"model": MODEL}))
    num_layers = capacity.cost(1).num_layers
    rows: list[tuple[Cell, ...]] = []
    largest: dict[int, list[tuple[int, int]]] = {memory: [] for memory in MEMORIES}
    for layers in spread(num_layers, numbers_of_layers(bench.scale)):
        bench.say(f"{MODEL}: {layers} of {num_layers} layers")
        for memory in MEMORIES:
            fit = capacity.fit(layers, memory)
            batch = fit.largest_batch or 0
            largest[memory].append((layers, batch))
            rows.append((layers, num_layers, memory, fit.required, batch, fit.population))
    figure = new_figure(x="trained layers", y="largest batch")
    figure.update_yaxes(type="log")
    for position, (memory, points) in enumerate(largest.items()):
        fitting = [(layers, batch) for layers, batch in points if batch]
        style = {"name": format_size(memory), **line_style(position)}
        figure.add_scatter(x=[layers for layers, _ in fitting], y=[batch for _, batch in fitting], **style)
    return Reproduced(
        name="fig6a",
        title=f"Figure 6a: the largest batch that fits, {MODEL} model",
        scale=bench.scale,
        circumstances=f"predicted for float32 and AdamW, context 1024, {MARGIN:.0%} kept free",
        findings=_findings(largest, num_layers),
        columns=(
            "layers",
            "num_layers",
            "device_bytes",
            "required_bytes_batch_1",
            "largest_batch",
            "population_batch_1",
        ),
        rows=rows,
        drawings=[
            figure_section(
                "The largest batch by device", figure, note="Where a line ends, not even one example fits."
            )
        ],
    )


def _findings(largest: dict[int, list[tuple[int, int]]], num_layers: int) -> list[Finding]:
    findings = []
    for memory, points in largest.items():
        serves = [layers for layers, batch in points if batch]
        sizes = f"batch {points[0][1]} with one layer, {points[-1][1]} with all {num_layers}"
        served = f"up to {max(serves)} layers" if serves else "none"
        findings.append(
            Finding(f"{format_size(memory)}: fidelities that fit", "figure alone", f"{served}; {sizes}")
        )
    weak = [memory for memory, points in largest.items() if points[0][1] > 0 and points[-1][1] == 0]
    findings.append(
        Finding(
            "devices too small for full training that serve low fidelities",
            "there are such",
            ", ".join(map(format_size, weak)) or "none of these",
            held(bool(weak)),
        )
    )
    return findings
