"""Layers and samples together: figure 5 for the GPT, figure 10 for the ResNet, and table 3."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from frostline.audit.agreement import Agreement, agreement
from frostline.pages.drawing import new_figure
from frostline.research.reproduction.charts import Trace, heat_map
from frostline.research.reproduction.paired import correlation_difference, lowest_first
from frostline.research.reproduction.reproduced import (
    Drawing,
    Finding,
    Reproduced,
    Verdict,
    at,
    held,
    with_interval,
)
from frostline.research.reproduction.workbench import circumstances, too_few
from frostline.wording import counted

if TYPE_CHECKING:
    from frostline.audit.landscape import Landscape
    from frostline.research.reproduction.reproduced import Cell
    from frostline.research.reproduction.workbench import Workbench

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
    found = agreement(landscape)
    last = len(landscape.layers) - 1
    means = {"flops": landscape.flops[0], "seconds": landscape.seconds.mean(axis=0)}
    rows: list[tuple[Cell, ...]] = []
    for s, samples in enumerate(landscape.samples):
        share = samples / landscape.samples[-1]
        z = diagonal_layer(landscape, s)
        row: list[Cell] = [share]
        for index in (z, last):
            estimate = at(found.spearman, (index, s))
            row += [
                landscape.layers[index],
                *(float(part) for part in (estimate.value, estimate.low, estimate.high)),
            ]
            row += [float(means["flops"][index, s]), float(means["seconds"][index, s])]
        near = min(TABLE_3, key=lambda paper: abs(paper.share - share))
        rows.append((*row, near.share, *near.diagonal, *near.single))
    ours = ("layers", "spearman", "low", "high", "flops", "seconds")
    theirs = ("spearman", "flops_1e16", "seconds")
    kinds = ("diagonal", "single")
    return Reproduced(
        name="table3",
        title="Table 3: the diagonal climb against the one over tokens alone",
        scale=bench.scale,
        circumstances=circumstances({"gpt": landscape}),
        findings=(*_table_findings(landscape, found, means),),
        columns=(
            "share",
            *(f"{kind}_{name}" for kind in kinds for name in ours),
            "paper_share",
            *(f"paper_{kind}_{name}" for kind in kinds for name in theirs),
        ),
        rows=tuple(rows),
        drawings=(("Rank correlation against seconds", "", _table_drawing(rows)),),
        notes=(
            *too_few({"gpt": landscape}, {"gpt": found}),
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
    found = agreement(landscape)
    # FLOPs are the same for all configurations, and may not be known.
    seconds, flops = landscape.seconds.mean(axis=0), landscape.flops[0]
    spearman = found.spearman
    rows: list[tuple[Cell, ...]] = []
    for z, layers in enumerate(landscape.layers):
        for s, samples in enumerate(landscape.samples):
            estimate = (float(part[z, s]) for part in (spearman.value, spearman.low, spearman.high))
            rows.append((layers, samples, *estimate, float(seconds[z, s]), float(flops[z, s])))
    traces = paper_traces(landscape)
    maps = [
        ("Spearman's ρ with full fidelity", spearman.value, "ρ", (0.0, 1.0)),
        ("Seconds of one configuration", seconds, "s", None),
        ("FLOPs of one configuration", flops / 1e12, "TFLOP", None),
        *(
            (
                f"ρ of at least {threshold}",
                np.where(spearman.value >= threshold, spearman.value, np.nan),
                "ρ",
                (0.0, 1.0),
            )
            for threshold in THRESHOLDS
        ),
    ]
    drawings: list[Drawing] = [
        (heading, "", heat_map(landscape, values, unit=unit, traces=traces, limits=limits))
        for heading, values, unit, limits in maps
    ]
    return Reproduced(
        name=name,
        title=title,
        scale=bench.scale,
        circumstances=circumstances({model: landscape}),
        findings=(
            *_trace_findings(landscape, found, traces, seconds),
            _few_layers(landscape, found),
        ),
        columns=("layers", "samples", "spearman", "low", "high", "mean_seconds", "flops"),
        rows=tuple(rows),
        drawings=tuple(drawings),
        notes=too_few({model: landscape}, {model: found}),
    )


def _trace_findings(
    landscape: Landscape, found: Agreement, traces: tuple[Trace, Trace], seconds: np.ndarray
) -> list[Finding]:
    """Compare the two climbs, rung by rung below the last."""
    losses, full = lowest_first(landscape), landscape.full_losses
    findings = []
    single_at = {s: z for z, s in traces[1].cells}
    for z, s in traces[0].cells[:-1]:
        other = (single_at[s], s)
        gain = correlation_difference((losses[z, s], full), (losses[other], full))
        share = landscape.samples[s] / landscape.samples[-1]
        saved = seconds[other] / seconds[z, s]
        low, high = float(gain.low), float(gain.high)
        verdict = Verdict.HOLDS if low >= -_AS_GOOD else Verdict.FAILS if high < -_AS_GOOD else Verdict.UNCLEAR
        findings.append(
            Finding(
                f"{counted(landscape.layers[z], 'layer')} at {share:.0%} of the samples against all layers there",
                "ranks as well for less, except at the lowest rung",
                f"ρ {with_interval(found.spearman, (z, s))} against {with_interval(found.spearman, other)}, difference "
                f"{with_interval(gain)}; {saved:.2f} times fewer seconds",
                verdict,
            )
        )
    return findings


def _few_layers(landscape: Landscape, found: Agreement) -> Finding:
    """Say from how few layers on a full budget reaches each threshold."""
    column = found.spearman.value[:, -1]
    parts = []
    for threshold in THRESHOLDS:
        below = np.flatnonzero(column < threshold)
        first = 0 if len(below) == 0 else int(below[-1]) + 1
        parts.append(f"{threshold} from {counted(landscape.layers[first], 'layer')} on")
    return Finding(
        "few layers, many samples", "very high ρ in the lower right corner", f"ρ stays above {', '.join(parts)}"
    )


def _table_findings(landscape: Landscape, found: Agreement, means: dict[str, np.ndarray]) -> list[Finding]:
    last = len(landscape.layers) - 1
    losses, full = lowest_first(landscape), landscape.full_losses
    lowest = (diagonal_layer(landscape, 0), 0)
    saved = {name: float(values[last, 0] / values[lowest]) for name, values in means.items()}
    budgets = range(1, len(landscape.samples) - 1)
    gaps = [
        correlation_difference((losses[diagonal_layer(landscape, s), s], full), (losses[last, s], full))
        for s in budgets
    ]
    worst = min(gaps, key=lambda gap: float(gap.value), default=None)
    findings = [
        Finding(
            "lowest rung: ρ, one layer and all",
            "0.26 and 0.44",
            f"{with_interval(found.spearman, lowest)} and {with_interval(found.spearman, (last, 0))}",
        ),
        Finding(
            "lowest rung: times fewer FLOPs, seconds",
            "1.18, 1.59",
            f"{_times(saved['flops'])}, {_times(saved['seconds'])}",
            held(saved["seconds"] > 1),
        ),
    ]
    if worst is not None:
        low, high = float(worst.low), float(worst.high)
        verdict = Verdict.HOLDS if low >= -_AS_GOOD else Verdict.FAILS if high < -_AS_GOOD else Verdict.UNCLEAR
        findings.append(
            Finding(
                "above the lowest rung: ρ on the diagonal less that of all layers, where it is worst",
                "-0.05 (at 29 % of the tokens)",
                with_interval(worst),
                verdict,
            )
        )
    totals = {name: float(np.sum([values[last, s] for s in budgets])) for name, values in means.items()}
    diagonals = {
        name: float(np.sum([values[diagonal_layer(landscape, s), s] for s in budgets]))
        for name, values in means.items()
    }
    ratios = [_times(totals[name] / diagonals[name]) for name in ("flops", "seconds")]
    findings.append(Finding("rungs between: times fewer FLOPs, seconds", _paper_between(), ", ".join(ratios)))
    return findings


def _times(ratio: float) -> str:
    return "not known" if np.isnan(ratio) else f"{ratio:.2f}"


def _paper_between() -> str:
    """The paper's ratios over the rungs between the lowest and the last, summed."""
    between = TABLE_3[1:-1]
    ratios = [sum(row.single[k] for row in between) / sum(row.diagonal[k] for row in between) for k in (1, 2)]
    return ", ".join(f"{ratio:.2f}" for ratio in ratios)


def _table_drawing(rows: list[tuple[Cell, ...]]) -> object:
    figure = new_figure(x="mean seconds of one configuration", y="Spearman's ρ with full fidelity")
    for name, offset, dash in (("diagonal", 1, "solid"), ("all layers", 7, "dash")):
        figure.add_scatter(
            x=[row[offset + 5] for row in rows],
            y=[row[offset + 1] for row in rows],
            name=name,
            mode="lines+markers",
            line={"dash": dash},
        )
    return figure
