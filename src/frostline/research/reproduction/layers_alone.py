"""What the number of trained layers alone does to score, time and rank: figures 3, 4 and 11."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from frostline.audit.agreement import agreement
from frostline.audit.monotonicity import monotonicity
from frostline.costs.measurement import FailedStep, measure_steps
from frostline.pages.drawing import line_style, new_figure, scale_colours
from frostline.pages.parts import Section, figure_section
from frostline.research.reproduction.charts import lines_with_intervals
from frostline.research.reproduction.reproduced import (
    Finding,
    Reproduced,
    Verdict,
    at,
    at_least,
    held,
    parts,
    with_interval,
)
from frostline.research.reproduction.scales import Scale
from frostline.research.reproduction.workbench import circumstances, too_few
from frostline.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.audit.landscape import Landscape
    from frostline.costs.step_cost import Seconds
    from frostline.research.reproduction.reproduced import Cell
    from frostline.research.reproduction.workbench import Workbench

BOTH = ("gpt", "resnet")

# What "about 1" means here, for a correlation that is measured over some tens of configurations.
_ABOUT_ONE = 0.9
_SHARE = 0.4

_REPETITIONS = {Scale.TINY: (1, 5), Scale.SMALL: (3, 10), Scale.PAPER: (100, 100)}
"""Steps to warm up and steps that are timed; the paper's in the original setting."""


def figure_3(bench: Workbench) -> Reproduced:
    """Validation score and time of a step against trained layers, for a configuration chosen at random."""
    rows: list[tuple[Cell, ...]] = []
    findings: list[Finding] = []
    drawings: list[Section] = []
    landscapes = {model: bench.landscape(model) for model in BOTH}
    for model, landscape in landscapes.items():
        chosen = _any_that_learned(landscape)
        number = landscape.configurations[chosen].number
        scores = landscape.scores[chosen, :, -1].tolist()
        means = [_mean(landscape.losses[:, z, -1]) for z in range(len(landscape.layers))]
        seconds = _step_seconds(bench, model, landscape)
        medians = [None if step is None else step.median for step in seconds]
        rows += [(model, number, *row) for row in zip(landscape.layers, scores, means, medians, strict=True)]
        drawings += _score_and_time(model, landscape, landscape.losses[chosen, :, -1], means, medians)
        findings.append(_performance(model, landscape, chosen))
        findings.append(
            _tested(model, landscape, "performance in layers", "more layers score no worse, all configurations")
        )
        findings.append(_time(model, landscape.layers, seconds))
    return Reproduced(
        name="fig3",
        title="Figure 3: score and time of a step against trained layers",
        scale=bench.scale,
        circumstances=circumstances(landscapes),
        findings=findings,
        columns=("model", "configuration", "layers", "score", "mean_loss", "step_seconds"),
        rows=rows,
        drawings=drawings,
    )


def _score_and_time(
    model: str, landscape: Landscape, losses: np.ndarray, means: Sequence[float], medians: Sequence[float | None]
) -> list[Section]:
    scores = new_figure(x="trained layers", y=f"score after {landscape.samples[-1]:,} {landscape.sample_unit}")
    scores.add_scatter(x=landscape.layers, y=losses, name="one configuration", **line_style(0))
    scores.add_scatter(x=landscape.layers, y=means, name="mean of all", **line_style(1))
    times = new_figure(x="trained layers", y="milliseconds per step")
    milliseconds = [None if median is None else 1e3 * median for median in medians]
    times.add_scatter(x=landscape.layers, y=milliseconds, name=model, **line_style(0))
    note = "Configurations that diverged at any number of layers are in no mean."
    return [
        figure_section(f"{model}: score", scores, note=note),
        figure_section(f"{model}: time of a step", times),
    ]


def figure_4(bench: Workbench) -> Reproduced:
    """Rank correlation with full fidelity against the share of layers that are trained."""
    landscapes = {model: bench.landscape(model) for model in BOTH}
    agreements = {model: agreement(landscape) for model, landscape in landscapes.items()}
    rows: list[tuple[Cell, ...]] = []
    findings: list[Finding] = []
    lines = {}
    for model, landscape in landscapes.items():
        ranked = agreements[model]
        num_layers = landscape.layers[-1]
        spearman = at(ranked.spearman, (slice(None), -1))
        lines[model] = ([100 * layers / num_layers for layers in landscape.layers], spearman)
        for z, layers in enumerate(landscape.layers):
            kendall = float(ranked.kendall.value[z, -1])
            share = layers / num_layers
            rows.append((model, layers, share, *parts(spearman, (z,)), kendall, ranked.num_configurations))
        from_40 = next(z for z, layers in enumerate(landscape.layers) if layers >= _SHARE * num_layers)
        ours = at(spearman, (from_40,))
        findings.append(
            Finding(
                f"{model}: ρ with 40 % of the layers trained",
                "about 1 from there on",
                f"{with_interval(ours)} at {landscape.layers[from_40]} of {num_layers}",
                at_least(ours, _ABOUT_ONE),
            )
        )
        findings.append(_tested(model, landscape, "information in layers", "more layers rank no worse"))
    figure = lines_with_intervals(lines, x_title="% of layers trained", y_title="Spearman's ρ with full fidelity")
    note = "Bars: 95 % intervals by the bootstrap over configurations."
    return Reproduced(
        name="fig4",
        title="Figure 4: how well configurations rank with few layers trained",
        scale=bench.scale,
        circumstances=circumstances(landscapes),
        findings=findings,
        columns=("model", "layers", "share", "spearman", "low", "high", "kendall", "configurations"),
        rows=rows,
        drawings=[figure_section("Rank correlation with full fidelity", figure, note=note)],
        notes=too_few(landscapes, agreements),
    )


def figure_11(bench: Workbench) -> Reproduced:
    """The distribution of losses for each number of trained layers, of the GPT."""
    landscape = bench.landscape("gpt")
    figure = new_figure(x="trained layers", y="score")
    rows: list[tuple[Cell, ...]] = []
    medians: list[float] = []
    spreads: list[float] = []
    colours = scale_colours(len(landscape.layers))
    for z, (layers, colour) in enumerate(zip(landscape.layers, colours, strict=True)):
        scores = landscape.scores[:, z, -1]
        finite = scores[np.isfinite(scores)]
        figure.add_box(
            y=list(finite), name=f"{layers}", boxpoints="all", jitter=0.4, marker_color=colour, showlegend=False
        )
        low, median, high = np.quantile(finite, [0.25, 0.5, 0.75])
        medians.append(float(median))
        spreads.append(float(high - low))
        for configuration, score in zip(landscape.configurations, scores, strict=True):
            rows.append((configuration.number, layers, float(score) if np.isfinite(score) else None))
    findings = [
        Finding(what, "figure alone", f"{values[0]:.3f} with one layer, {values[-1]:.3f} with all")
        for what, values in (("median score", medians), ("distance between the quartiles", spreads))
    ]
    note = "Boxes: quartiles. Those that diverged are left out."
    return Reproduced(
        name="fig11",
        title="Figure 11: the distribution of losses for each number of trained layers",
        scale=bench.scale,
        circumstances=circumstances({"gpt": landscape}),
        findings=findings,
        columns=("configuration", "layers", "score"),
        rows=rows,
        drawings=[figure_section("Scores after full training", figure, note=note)],
    )


def _any_that_learned(landscape: Landscape) -> int:
    """Return the index of a configuration chosen at random, always the same, among those that diverged nowhere."""
    whole = np.flatnonzero(np.isfinite(landscape.losses[:, :, -1]).all(axis=1))
    return int(np.random.default_rng(0).choice(whole)) if len(whole) else 0


def _mean(losses: np.ndarray) -> float:
    finite = losses[np.isfinite(losses)]
    return float(finite.mean()) if len(finite) else float("nan")


def _step_seconds(bench: Workbench, model: str, landscape: Landscape) -> list[Seconds | None]:
    """Return the measured seconds of a step for each number of layers of the landscape; None where it failed."""
    warm_up, repetitions = _REPETITIONS[bench.scale]
    costs = measure_steps(
        bench.task(model),
        layers=landscape.layers,
        device=bench.torch_device,
        warm_up=warm_up,
        repetitions=repetitions,
    )
    return [None if isinstance(cost, FailedStep) or cost.seconds is None else cost.seconds.whole for cost in costs]


def _performance(model: str, landscape: Landscape, chosen: int) -> Finding:
    worse = np.diff(landscape.losses[chosen, :, -1]) > 0
    what = f"{model}: more layers score no worse, the configuration drawn"
    ours = f"worse after {int(worse.sum())} of {len(worse)} steps of one layer"
    return Finding(what, "monotone", ours, held(not worse.any()))


def _time(model: str, layers: tuple[int, ...], seconds: list[Seconds | None]) -> Finding:
    what = f"{model}: a step takes longer with more layers"
    known = [(number, taken) for number, taken in zip(layers, seconds, strict=True) if taken is not None]
    if len(known) < 2:
        return Finding(what, "monotone", "no two steps ran", Verdict.UNCLEAR)
    # By less than what the repetitions of one step differ, a time may fall: costs/monotonicity.py does the same.
    falls = [
        f"{lower} to {higher}"
        for (lower, before), (higher, after) in pairwise(known)
        if after.median < before.median - max(before.spread, after.spread)
    ]
    ratio = known[0][1].median / known[-1][1].median
    ours = f"{ratio:.2f} of full training's time with {counted(known[0][0], 'layer')} trained"
    return Finding(what, "monotone", "; falls from ".join([ours, *falls[:1]]), held(not falls))


def _tested(model: str, landscape: Landscape, name: str, what: str) -> Finding:
    """Return the audit's own test of a monotonicity along the layers."""
    test = next(test for test in monotonicity(landscape) if test.name == name and test.axis == "layers")
    return Finding(f"{model}: {what}", "monotone", test.sentence, held(test.holds))
