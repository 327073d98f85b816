"""Low fidelity against full, and scores over the samples, of the ResNet: figures 7 and 8."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from frostline.audit.agreement import agreement
from frostline.pages.drawing import scale_colours
from frostline.pages.parts import figure_section
from frostline.research.reproduction.charts import panels, place
from frostline.research.reproduction.reproduced import (
    Finding,
    Reproduced,
    at,
    at_least,
    held,
    with_interval,
)
from frostline.research.reproduction.workbench import circumstances, too_few
from frostline.wording import counted

if TYPE_CHECKING:
    from frostline.audit.landscape import Landscape
    from frostline.research.reproduction.reproduced import Cell
    from frostline.research.reproduction.workbench import Workbench

_DRAWN = 4
"""How many configurations have their curves drawn, and how many fidelities their scatter."""

_HIGH = 0.6
"""The lowest of the paper's thresholds: what "quite high" means here."""

_HIGHLY = 0.9
"""The share of comparisons that must be monotone to call it highly so."""


def figure_7(bench: Workbench) -> Reproduced:
    """The score at few trained layers against that of full training, on the same samples."""
    landscape = bench.landscape("resnet")
    ranked = agreement(landscape)
    rows: list[tuple[Cell, ...]] = []
    for index, configuration in enumerate(landscape.configurations):
        full = _number(landscape.scores[index, -1, -1])
        for z, layers in enumerate(landscape.layers):
            rows.append((configuration.number, layers, _number(landscape.scores[index, z, -1]), full))
    last = len(landscape.layers) - 1
    drawn = sorted({0, max(1, last // 4), last // 2, last - 1})[:_DRAWN]
    titles = [
        f"{counted(landscape.layers[z], 'layer')}: ρ {with_interval(ranked.spearman, (z, -1))}" for z in drawn
    ]
    figure = panels(titles, "score at full fidelity", "score with few layers")
    for position, (z, colour) in enumerate(zip(drawn, scale_colours(len(drawn)), strict=True)):
        figure.add_scatter(
            x=list(landscape.scores[:, -1, -1]),
            y=list(landscape.scores[:, z, -1]),
            mode="markers",
            marker={"color": colour, "size": 9},
            showlegend=False,
            **place(position),
        )
    lowest = at(ranked.spearman, (0, -1))
    return Reproduced(
        name="fig7",
        title="Figure 7: low fidelity against full, the ResNet",
        scale=bench.scale,
        circumstances=circumstances({"resnet": landscape}),
        findings=[
            Finding("ρ at the lowest fidelity", "quite high", with_interval(lowest), at_least(lowest, _HIGH))
        ],
        columns=("configuration", "layers", "score", "full_score"),
        rows=rows,
        drawings=[figure_section("Each configuration", figure, note="Those that diverged are left out.")],
        notes=too_few({"resnet": landscape}, {"resnet": ranked}),
    )


def figure_8(bench: Workbench) -> Reproduced:
    """The score over the samples for each number of trained layers, of a few configurations chosen at random."""
    landscape = bench.landscape("resnet")
    rows: list[tuple[Cell, ...]] = [
        (configuration.number, layers, samples, _number(landscape.scores[index, z, s]))
        for index, configuration in enumerate(landscape.configurations)
        for z, layers in enumerate(landscape.layers)
        for s, samples in enumerate(landscape.samples)
    ]
    chosen = np.random.default_rng(0).permutation(landscape.num_configurations)[:_DRAWN]
    titles = [f"configuration {landscape.configurations[index].number}" for index in chosen]
    figure = panels(titles, landscape.sample_unit, "score")
    for position, index in enumerate(chosen):
        for z, colour in enumerate(scale_colours(len(landscape.layers))):
            figure.add_scatter(
                x=landscape.samples,
                y=[_number(score) for score in landscape.scores[index, z]],
                mode="lines",
                line={"color": colour},
                name=counted(landscape.layers[z], "layer"),
                legendgroup=f"{z}",
                showlegend=position == 0,
                **place(position),
            )
    return Reproduced(
        name="fig8",
        title="Figure 8: scores over the samples for each number of trained layers",
        scale=bench.scale,
        circumstances=circumstances({"resnet": landscape}),
        findings=_monotonic(landscape),
        columns=("configuration", "layers", "samples", "score"),
        rows=rows,
        drawings=[figure_section("Configurations drawn at random", figure, note="Dark: few layers. Light: all.")],
    )


def _monotonic(landscape: Landscape) -> list[Finding]:
    losses = landscape.losses
    no_worse = (losses[:, 1:, :] <= losses[:, :-1, :]) | np.isinf(losses[:, :-1, :])
    share = float(no_worse.mean())
    early, late = float(no_worse[:, :, 0].mean()), float(no_worse[:, :, -1].mean())
    ends = float((losses[:, -1, :] <= losses[:, 0, :]).mean())
    return [
        Finding(
            "one layer more scores no worse, over all configurations and budgets",
            "highly monotonic",
            f"{share:.0%} of the comparisons ({early:.0%} at the first budget, {late:.0%} at the last)",
            held(share >= _HIGHLY),
        ),
        Finding(
            "all layers score no worse than one", "monotonic", f"{ends:.0%} of the comparisons", held(ends == 1)
        ),
    ]


def _number(score: float) -> float | None:
    return None if np.isnan(score) else float(score)
