"""Two ways of doing the same, compared by how well they rank: figure 12, and the choices that the paper does not compare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from frostline.audit.agreement import agreement
from frostline.errors import AuditError
from frostline.research.reproduction.charts import lines_with_intervals
from frostline.research.reproduction.paired import (
    at_budgets,
    correlation_difference,
    in_common,
    lowest_first,
    with_last_columns,
)
from frostline.research.reproduction.reproduced import (
    Drawing,
    Finding,
    Reproduced,
    Verdict,
    with_interval,
)
from frostline.research.reproduction.scales import BUDGETS
from frostline.research.reproduction.workbench import circumstances, too_few
from frostline.statistics.bootstrap import Estimate
from frostline.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.audit.agreement import Agreement
    from frostline.audit.landscape import Landscape
    from frostline.research.reproduction.reproduced import Cell
    from frostline.research.reproduction.workbench import Workbench


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Two landscapes of the same configurations, recorded in two ways, the default first."""

    name: str
    title: str
    models: tuple[str, ...]
    ways: tuple[str, str]
    paper: str
    """What the paper says of it."""


FIGURE_12 = Choice(
    name="fig12",
    title="Figure 12: embeddings tied and not",
    models=("gpt", "gpt-tied"),
    ways=("untied", "tied"),
    paper="both rank; most of its experiments are tied",
)
TIED = Choice(
    name="choices-tied",
    title="Tied weights: the embedding's output detached, or a snapshot of it kept for the prefix",
    models=("gpt-tied", "gpt-snapshot"),
    ways=("detach", "snapshot"),
    paper="detaches",
)
STATISTICS = Choice(
    name="choices-statistics",
    title="Frozen batch normalisation: calibrated statistics, or each batch's own",
    models=("resnet", "resnet-batch"),
    ways=("calibrated", "batch"),
    paper="each batch's own",
)
DTYPE = Choice(
    name="choices-dtype",
    title="Frozen weights in float32, or in bfloat16",
    models=("gpt", "gpt-bfloat16"),
    ways=("float32", "bfloat16"),
    paper="float32",
)
HORIZON = Choice(
    name="choices-horizon",
    title="A schedule that ends with each rung, or the full one cut short",
    models=("gpt", *(f"gpt-{percent}" for percent in BUDGETS)),
    ways=("rung", "full"),
    paper="the full one, read at every step",
)


def figure_12(bench: Workbench) -> Reproduced:
    """Rank correlation of the GPT with its embeddings tied and not."""
    return _compared(bench, FIGURE_12)


def tied_choice(bench: Workbench) -> Reproduced:
    """Rank correlation of the tied GPT, its embedding detached or kept as a snapshot."""
    return _compared(bench, TIED)


def statistics_choice(bench: Workbench) -> Reproduced:
    """Rank correlation of the ResNet with frozen statistics calibrated or of the batch."""
    return _compared(bench, STATISTICS)


def dtype_choice(bench: Workbench) -> Reproduced:
    """Rank correlation of the GPT with frozen weights in float32 or bfloat16."""
    return _compared(bench, DTYPE)


def horizon_choice(bench: Workbench) -> Reproduced:
    """Rank correlation at parts of the budget, the schedule compressed to them or cut short there.

    A schedule that is compressed to a budget is that of a task whose full budget it is.
    """
    recorded = [bench.landscape(model) for model in HORIZON.models]
    whole, *parts = in_common(recorded)
    shares = [whole.samples[-1] * percent / 100 for percent in BUDGETS]
    indices = [min(range(len(whole.samples) - 1), key=lambda s: abs(whole.samples[s] - share)) for share in shares]
    cut = at_budgets(whole, indices)
    return _comparison(bench, HORIZON, (with_last_columns(cut, parts), cut), budgets=range(len(parts)))


def _compared(bench: Workbench, choice: Choice) -> Reproduced:
    first, second = in_common([bench.landscape(model) for model in choice.models])
    if len(first.samples) != len(second.samples):
        raise AuditError(
            f"{choice.models[0]} has {len(first.samples)} budgets and {choice.models[1]} {len(second.samples)}: record both "
            f"at as many, to compare them."
        )
    half = (len(first.samples) - 1) // 2
    pair = (at_budgets(first, [half]), at_budgets(second, [half]))
    return _comparison(bench, choice, pair, budgets=range(len(pair[0].samples)))


def _comparison(
    bench: Workbench, choice: Choice, pair: tuple[Landscape, Landscape], *, budgets: Sequence[int]
) -> Reproduced:
    """Compare two landscapes of the same configurations, cell by cell at these of their budgets."""
    found = (agreement(pair[0]), agreement(pair[1]))
    gains = _gains(pair)
    rows: list[tuple[Cell, ...]] = []
    for way, landscape, ranked in zip(choice.ways, pair, found, strict=True):
        for z, layers in enumerate(landscape.layers):
            for s in budgets:
                own = _parts(ranked.spearman, (z, s))
                best = float(landscape.losses[:, z, s].min())
                rows.append((way, layers, landscape.samples[s], *own, *_parts(gains, (z, s)), best))
    named = dict(zip(choice.ways, pair, strict=True))
    return Reproduced(
        name=choice.name,
        title=choice.title,
        scale=bench.scale,
        circumstances=circumstances(named),
        findings=tuple(_findings(choice, pair, found, gains, budgets)),
        columns=(
            "way", "layers", "samples", "spearman", "low", "high", "gain_of_first", "gain_low", "gain_high", "best_loss",
        ),
        rows=tuple(rows),
        drawings=tuple(_drawings(choice, pair, found, budgets)),
        notes=too_few(named, dict(zip(choice.ways, found, strict=True))),
    )  # fmt: skip


def _gains(pair: tuple[Landscape, Landscape]) -> Estimate:
    """Return, (Z, S), by how much the first landscape ranks better than the second, over the same configurations."""
    first, second = ((lowest_first(landscape), landscape.full_losses) for landscape in pair)
    return correlation_difference(first, second)


def _findings(
    choice: Choice,
    pair: tuple[Landscape, Landscape],
    found: tuple[Agreement, Agreement],
    gains: Estimate,
    budgets: Sequence[int],
) -> list[Finding]:
    findings = []
    layers, samples = pair[0].layers, pair[0].samples
    # Full training has nothing frozen and ranks itself perfectly: below it there is something to compare.
    for s in budgets:
        cells = [(z, s) for z in range(len(layers)) if (z, s) != (len(layers) - 1, len(samples) - 1)]
        better = [layers[z] for z, s in cells if gains.low[z, s] > 0]
        worse = [layers[z] for z, s in cells if gains.high[z, s] < 0]
        largest = max(cells, key=lambda cell: abs(float(gains.value[cell])))
        sentence = _sentence(choice, better, worse)
        at_first = ", ".join(
            f"{way} {with_interval(ranked.spearman, (0, s))}"
            for way, ranked in zip(choice.ways, found, strict=True)
        )
        findings.append(
            Finding(
                f"{samples[s]:,} {pair[0].sample_unit}: which ranks better",
                choice.paper,
                f"{sentence}; the largest difference, with {counted(layers[largest[0]], 'layer')}, "
                f"{with_interval(gains, largest)}; with one layer {at_first}",
                Verdict.SHOWN if better or worse else Verdict.UNCLEAR,
            )
        )
    bests = ", ".join(
        f"{way} {float(landscape.full_losses.min()):.4f}" for way, landscape in zip(choice.ways, pair, strict=True)
    )
    findings.append(Finding("best loss at full fidelity", "not compared", bests))
    return findings


def _sentence(choice: Choice, better: list[int], worse: list[int]) -> str:
    first, second = choice.ways
    parts = [
        f"{way} ranks better at {', '.join(map(str, numbers))} layers"
        for way, numbers in ((first, better), (second, worse))
        if numbers
    ]
    return "; ".join(parts) or "no difference that the intervals show"


def _drawings(
    choice: Choice, pair: tuple[Landscape, Landscape], found: tuple[Agreement, Agreement], budgets: Sequence[int]
) -> list[Drawing]:
    drawings: list[Drawing] = []
    for s in budgets:
        lines = {}
        for way, landscape, ranked in zip(choice.ways, pair, found, strict=True):
            estimate = Estimate(
                value=ranked.spearman.value[:, s], low=ranked.spearman.low[:, s], high=ranked.spearman.high[:, s]
            )
            lines[way] = (list(landscape.layers), estimate)
        figure = lines_with_intervals(lines, x_title="trained layers", y_title="Spearman's ρ with full fidelity")
        drawings.append((f"{pair[0].samples[s]:,} {pair[0].sample_unit}", "Bars: 95 % intervals.", figure))
    return drawings


def _parts(estimate: Estimate, cell: tuple[int, int]) -> tuple[float, float, float]:
    return float(estimate.value[cell]), float(estimate.low[cell]), float(estimate.high[cell])
