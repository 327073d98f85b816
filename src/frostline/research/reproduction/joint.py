"""Layers and samples together: figure 5 for the GPT, figure 10 for the ResNet, and table 3."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from frostline.audit.agreement import Agreement, agreement
from frostline.pages.drawing import new_figure
from frostline.pages.parts import figure_section
from frostline.research.reproduction.charts import Trace, heat_map
from frostline.research.reproduction.paired import correlation_difference, lowest_first
from frostline.research.reproduction.reproduced import (
    Finding,
    Reproduced,
    at_least,
    held,
    parts,
    with_interval,
)
from frostline.research.reproduction.workbench import circumstances, too_few
from frostline.wording import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from frostline.audit.landscape import Array, Landscape
    from frostline.research.reproduction.reproduced import Cell
    from frostline.research.reproduction.workbench import Workbench
    from frostline.statistics.bootstrap import Estimate

THRESHOLDS = (0.6, 0.85, 0.95)

_PERCENTAGES = (12, 25, 50, 100)
"""Of the layers and of the samples: where the paper's two climbs, each rung half as many configurations, ask."""

_AS_GOOD = 0.1
"""A difference in ρ below which two rungs count as ranking alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperRow:
    """One row of the paper's table 3. Units: ``flops`` in 1e16, ``seconds`` of one configuration on one L40S."""

    share: float
    diagonal: tuple[float, float, float]
    """ρ, FLOPs, seconds."""
    single: tuple[float, float, float]


TABLE_3 = (
    PaperRow(share=0.0915, diagonal=(0.26, 0.22, 2185.52), single=(0.44, 0.26, 3467.48)),
    PaperRow(share=0.1921, diagonal=(0.82, 0.48, 4843.13), single=(0.84, 0.55, 7281.70)),
    PaperRow(share=0.2928, diagonal=(0.82, 0.75, 8018.68), single=(0.87, 0.85, 11095.92)),
    PaperRow(share=0.3943, diagonal=(0.86, 1.03, 11392.41), single=(0.87, 1.14, 14944.82)),
    PaperRow(share=0.4950, diagonal=(0.87, 1.32, 15135.40), single=(0.89, 1.43, 18759.04)),
    PaperRow(share=0.5956, diagonal=(0.87, 1.63, 18892.12), single=(0.88, 1.72, 22573.26)),
    PaperRow(share=0.6972, diagonal=(0.87, 1.94, 23422.64), single=(0.91, 2.02, 26422.16)),
    PaperRow(share=0.7978, diagonal=(0.90, 2.26, 28088.84), single=(0.93, 2.31, 30236.38)),
    PaperRow(share=0.8984, diagonal=(0.92, 2.60, 32902.34), single=(0.92, 2.60, 34050.61)),
    PaperRow(share=1.0, diagonal=(1.00, 2.89, 37899.50), single=(1.00, 2.89, 37899.50)),
)


def figure_5(bench: Workbench) -> Reproduced:
    """The GPT's landscape of layers and tokens, with two climbs drawn in."""
    return _landscape_figure(bench, "gpt", name="fig5", title="Figure 5: layers and tokens together, the GPT")


def figure_10(bench: Workbench) -> Reproduced:
    """The ResNet's landscape of layers and epochs, with two climbs drawn in."""
    return _landscape_figure(
        bench, "resnet", name="fig10", title="Figure 10: layers and epochs together, the ResNet"
    )


def table_3(bench: Workbench) -> Reproduced:
    """The diagonal climb against the one over tokens alone: rank correlation, FLOPs, seconds."""
    landscape = bench.landscape("gpt")
    ranked = agreement(landscape)
    means = {"flops": landscape.flops[0], "seconds": landscape.seconds.mean(axis=0)}
    ours = ("layers", "spearman", "low", "high", "flops", "seconds")
    theirs = ("spearman", "flops_1e16", "seconds")
    kinds = ("diagonal", "single")
    columns = (
        "share",
        *(f"{kind}_{name}" for kind in kinds for name in ours),
        "paper_share",
        *(f"paper_{kind}_{name}" for kind in kinds for name in theirs),
    )
    rows: list[tuple[Cell, ...]] = []
    for s, samples in enumerate(landscape.samples):
        share = samples / landscape.samples[-1]
        row: list[Cell] = [share]
        for z in (diagonal_layer(landscape, s), len(landscape.layers) - 1):
            costs = (float(of_cells[z, s]) for of_cells in means.values())
            row += [landscape.layers[z], *parts(ranked.spearman, (z, s)), *costs]
        near = min(TABLE_3, key=lambda paper: abs(paper.share - share))
        rows.append((*row, near.share, *near.diagonal, *near.single))
    figure = new_figure(x="mean seconds of one configuration", y="Spearman's ρ with full fidelity")
    for name, kind, dash in (("diagonal", "diagonal", "solid"), ("all layers", "single", "dash")):
        seconds, spearman = (columns.index(f"{kind}_{name}") for name in ("seconds", "spearman"))
        x, y = [row[seconds] for row in rows], [row[spearman] for row in rows]
        figure.add_scatter(x=x, y=y, name=name, mode="lines+markers", line={"dash": dash})
    return Reproduced(
        name="table3",
        title="Table 3: the diagonal climb against the one over tokens alone",
        scale=bench.scale,
        circumstances=circumstances({"gpt": landscape}),
        findings=_table_findings(landscape, ranked, means),
        columns=columns,
        rows=rows,
        drawings=[figure_section("Rank correlation against seconds", figure)],
        notes=(
            *too_few({"gpt": landscape}, {"gpt": ranked}),
            "Seconds are of one configuration, from scratch, in a sweep that shares frozen layers; validation is in them.",
        ),
    )


def diagonal_layer(landscape: Landscape, s: int) -> int:
    """Return the index of the number of layers that stands on the diagonal at the budget ``s``: as large a share."""
    wanted = landscape.layers[-1] * landscape.samples[s] // landscape.samples[-1]
    return max((z for z, layers in enumerate(landscape.layers) if layers <= wanted), default=0)


def paper_traces(landscape: Landscape) -> tuple[Trace, Trace]:
    """Return the cells nearest to those of the paper's two climbs: layers and samples together, and samples alone."""
    diagonal, single = [], []
    for percentage in _PERCENTAGES:
        samples = landscape.samples[-1] * percentage / 100
        s = min(range(len(landscape.samples)), key=lambda index: abs(landscape.samples[index] - samples))
        wanted = max(1, landscape.layers[-1] * percentage // 100)
        z = max((index for index, layers in enumerate(landscape.layers) if layers <= wanted), default=0)
        diagonal.append((z, s))
        single.append((len(landscape.layers) - 1, s))
    # Of few budgets two percentages may come to one.
    return (
        Trace(name="layers and samples", cells=tuple(dict.fromkeys(diagonal))),
        Trace(name="samples alone", cells=tuple(dict.fromkeys(single)), dash="dash"),
    )


def _landscape_figure(bench: Workbench, model: str, *, name: str, title: str) -> Reproduced:
    landscape = bench.landscape(model)
    ranked = agreement(landscape)
    # FLOPs are the same for all configurations, and may not be known.
    seconds, flops = landscape.seconds.mean(axis=0), landscape.flops[0]
    spearman = ranked.spearman.value
    rows: list[tuple[Cell, ...]] = [
        (layers, samples, *parts(ranked.spearman, (z, s)), float(seconds[z, s]), float(flops[z, s]))
        for z, layers in enumerate(landscape.layers)
        for s, samples in enumerate(landscape.samples)
    ]
    traces = paper_traces(landscape)
    maps = [
        ("Spearman's ρ with full fidelity", spearman, "ρ", (0.0, 1.0)),
        ("Seconds of one configuration", seconds, "s", None),
        ("FLOPs of one configuration", flops / 1e12, "TFLOP", None),
    ]
    for threshold in THRESHOLDS:
        reached = np.where(spearman >= threshold, spearman, np.nan)
        maps.append((f"ρ of at least {threshold}", reached, "ρ", (0.0, 1.0)))
    return Reproduced(
        name=name,
        title=title,
        scale=bench.scale,
        circumstances=circumstances({model: landscape}),
        findings=[*_trace_findings(landscape, ranked, traces, seconds), _few_layers(landscape, ranked)],
        columns=("layers", "samples", "spearman", "low", "high", "mean_seconds", "flops"),
        rows=rows,
        drawings=[
            figure_section(heading, heat_map(landscape, values, unit=unit, traces=traces, limits=limits))
            for heading, values, unit, limits in maps
        ],
        notes=too_few({model: landscape}, {model: ranked}),
    )


def _trace_findings(
    landscape: Landscape, ranked: Agreement, traces: tuple[Trace, Trace], seconds: Array
) -> list[Finding]:
    """Compare the two climbs, rung by rung below the last."""
    findings = []
    single_at = {s: z for z, s in traces[1].cells}
    for z, s in traces[0].cells[:-1]:
        other = (single_at[s], s)
        gain = _gain(landscape, (z, s), other)
        share = landscape.samples[s] / landscape.samples[-1]
        findings.append(
            Finding(
                f"{counted(landscape.layers[z], 'layer')} at {share:.0%} of the samples against all layers there",
                "ranks as well for less, except at the lowest rung",
                f"ρ {with_interval(ranked.spearman, (z, s))} against {with_interval(ranked.spearman, other)}, difference "
                f"{with_interval(gain)}; {seconds[other] / seconds[z, s]:.2f} times fewer seconds",
                at_least(gain, -_AS_GOOD),
            )
        )
    return findings


def _gain(landscape: Landscape, cell: tuple[int, int], other: tuple[int, int]) -> Estimate:
    """Return by how much ``cell`` ranks better than ``other``, both given by their indices (layers, samples)."""
    losses, full = lowest_first(landscape), landscape.full_losses
    return correlation_difference((losses[cell], full), (losses[other], full))


def _few_layers(landscape: Landscape, ranked: Agreement) -> Finding:
    """Say from how few layers on a full budget reaches each threshold."""
    column = ranked.spearman.value[:, -1]
    lowest = []
    for threshold in THRESHOLDS:
        below = np.flatnonzero(column < threshold)
        first = 0 if len(below) == 0 else int(below[-1]) + 1
        lowest.append(f"{threshold} from {counted(landscape.layers[first], 'layer')} on")
    return Finding(
        "few layers, many samples", "very high ρ in the lower right corner", f"ρ stays above {', '.join(lowest)}"
    )


def _table_findings(landscape: Landscape, ranked: Agreement, means: Mapping[str, Array]) -> list[Finding]:
    last = len(landscape.layers) - 1
    lowest = (diagonal_layer(landscape, 0), 0)
    saved = {name: float(values[last, 0] / values[lowest]) for name, values in means.items()}
    between = range(1, len(landscape.samples) - 1)
    diagonal, single = [(diagonal_layer(landscape, s), s) for s in between], [(last, s) for s in between]
    findings = [
        Finding(
            "lowest rung: ρ, one layer and all",
            "0.26 and 0.44",
            f"{with_interval(ranked.spearman, lowest)} and {with_interval(ranked.spearman, (last, 0))}",
        ),
        Finding(
            "lowest rung: times fewer FLOPs, seconds",
            "1.18, 1.59",
            f"{_times(saved['flops'])}, {_times(saved['seconds'])}",
            held(saved["seconds"] > 1),
        ),
    ]
    gains = [_gain(landscape, *cells) for cells in zip(diagonal, single, strict=True)]
    if gains:
        worst = min(gains, key=lambda gain: float(gain.value))
        findings.append(
            Finding(
                "above the lowest rung: ρ on the diagonal less that of all layers, where it is worst",
                "-0.05 (at 29 % of the tokens)",
                with_interval(worst),
                at_least(worst, -_AS_GOOD),
            )
        )
        ratios = [
            _times(_total(means[name], single) / _total(means[name], diagonal)) for name in ("flops", "seconds")
        ]
        findings.append(Finding("rungs between: times fewer FLOPs, seconds", _paper_between(), ", ".join(ratios)))
    return findings


def _total(of_cells: Array, cells: Sequence[tuple[int, int]]) -> float:
    return float(np.sum([of_cells[cell] for cell in cells]))


def _times(ratio: float) -> str:
    return "not known" if np.isnan(ratio) else f"{ratio:.2f}"


def _paper_between() -> str:
    """The paper's ratios over the rungs between the lowest and the last, summed."""
    between = TABLE_3[1:-1]
    ratios = [sum(row.single[k] for row in between) / sum(row.diagonal[k] for row in between) for k in (1, 2)]
    return ", ".join(f"{ratio:.2f}" for ratio in ratios)
