"""Two ways of doing the same, compared by how well they rank: figure 12, and the choices that the paper does not compare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from frostline.audit.agreement import agreement
from frostline.errors import AuditError
from frostline.pages.parts import Section, figure_section
from frostline.research.reproduction.charts import lines_with_intervals
from frostline.research.reproduction.paired import (
    at_budgets,
    correlation_difference,
    in_common,
    lowest_first,
    with_last_columns,
)
from frostline.research.reproduction.reproduced import (
    Finding,
    Reproduced,
    Verdict,
    at,
    parts,
    with_interval,
)
from frostline.research.reproduction.scales import BUDGETS
from frostline.research.reproduction.workbench import circumstances, too_few
from frostline.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from frostline.audit.agreement import Agreement
    from frostline.audit.landscape import Landscape
    from frostline.research.reproduction.reproduced import Cell
    from frostline.research.reproduction.workbench import Workbench
    from frostline.statistics.bootstrap import Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Two landscapes of the same configurations, recorded in two ways."""

    name: str
    title: str
    summary: str
    """The title in a list."""
    models: tuple[str, ...]
    ways: tuple[str, str]
    paper: str
    """What the paper says of it."""

    def compared(self, bench: Workbench) -> Reproduced:
        """Return how well the two ways rank, at half the budget and in full.

        Raises: AuditError if they were recorded at different numbers of budgets or layers.
        """
        first, second = in_common([bench.landscape(model) for model in self.models])
        if len(first.samples) != len(second.samples):
            raise AuditError(
                f"{self.models[0]} has {len(first.samples)} budgets and {self.models[1]} {len(second.samples)}: record both "
                f"at as many, to compare them."
            )
        half = (len(first.samples) - 1) // 2
        pair = (at_budgets(first, [half]), at_budgets(second, [half]))
        return _Comparison.of(self, pair, budgets=range(len(pair[0].samples))).reproduced(bench)


FIGURE_12 = Choice(
    name="fig12",
    title="Figure 12: embeddings tied and not",
    summary="embeddings tied and not",
    models=("gpt", "gpt-tied"),
    ways=("untied", "tied"),
    paper="both rank; most of its experiments are tied",
)
TIED = Choice(
    name="choices-tied",
    title="Tied weights: the embedding's output detached, or a snapshot of it kept for the prefix",
    summary="tied weights: detach or snapshot",
    models=("gpt-tied", "gpt-snapshot"),
    ways=("detach", "snapshot"),
    paper="detaches",
)
STATISTICS = Choice(
    name="choices-statistics",
    title="Frozen batch normalisation: calibrated statistics, or each batch's own",
    summary="frozen statistics: calibrated or of the batch",
    models=("resnet", "resnet-batch"),
    ways=("calibrated", "batch"),
    paper="each batch's own",
)
DTYPE = Choice(
    name="choices-dtype",
    title="Frozen weights in float32, or in bfloat16",
    summary="frozen weights: float32 or bfloat16",
    models=("gpt", "gpt-bfloat16"),
    ways=("float32", "bfloat16"),
    paper="float32",
)
HORIZON = Choice(
    name="choices-horizon",
    title="A schedule that ends with each rung, or the full one cut short",
    summary="the schedule: to the rung's end or cut short",
    models=("gpt", *(f"gpt-{percent}" for percent in BUDGETS)),
    ways=("rung", "full"),
    paper="the full one, read at every step",
)


def horizon_choice(bench: Workbench) -> Reproduced:
    """Rank correlation at parts of the budget, the schedule compressed to them or cut short there.

    A schedule that is compressed to a budget is that of a task whose full budget it is.
    """
    whole, *columns = in_common([bench.landscape(model) for model in HORIZON.models])
    shares = [whole.samples[-1] * percent / 100 for percent in BUDGETS]
    indices = [min(range(len(whole.samples) - 1), key=lambda s: abs(whole.samples[s] - share)) for share in shares]
    cut = at_budgets(whole, indices)
    pair = (with_last_columns(cut, columns), cut)
    return _Comparison.of(HORIZON, pair, budgets=range(len(columns))).reproduced(bench)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Comparison:
    """Two landscapes of the same configurations, cell by cell at some of their budgets."""

    choice: Choice
    landscapes: tuple[Landscape, Landscape]
    agreements: tuple[Agreement, Agreement]
    gains: Estimate
    """(Z, S): by how much the first landscape ranks better than the second."""
    budgets: Sequence[int]

    @classmethod
    def of(cls, choice: Choice, pair: tuple[Landscape, Landscape], *, budgets: Sequence[int]) -> _Comparison:
        first, second = ((lowest_first(landscape), landscape.full_losses) for landscape in pair)
        return cls(
            choice=choice,
            landscapes=pair,
            agreements=(agreement(pair[0]), agreement(pair[1])),
            gains=correlation_difference(first, second),
            budgets=budgets,
        )

    def reproduced(self, bench: Workbench) -> Reproduced:
        landscapes = dict(zip(self.choice.ways, self.landscapes, strict=True))
        return Reproduced(
            name=self.choice.name,
            title=self.choice.title,
            scale=bench.scale,
            circumstances=circumstances(landscapes),
            findings=self._findings(),
            columns=(
                "way", "layers", "samples", "spearman", "low", "high", "gain_of_first", "gain_low", "gain_high",
                "best_loss",
            ),
            rows=self._rows(),
            drawings=[self._drawing(s) for s in self.budgets],
            notes=too_few(landscapes, dict(zip(self.choice.ways, self.agreements, strict=True))),
        )  # fmt: skip

    def _ways(self) -> Iterator[tuple[str, Landscape, Agreement]]:
        return zip(self.choice.ways, self.landscapes, self.agreements, strict=True)

    def _rows(self) -> list[tuple[Cell, ...]]:
        return [
            (
                *(way, layers, landscape.samples[s]),
                *parts(ranked.spearman, (z, s)),
                *parts(self.gains, (z, s)),
                float(landscape.losses[:, z, s].min()),
            )
            for way, landscape, ranked in self._ways()
            for z, layers in enumerate(landscape.layers)
            for s in self.budgets
        ]

    def _findings(self) -> list[Finding]:
        bests = ", ".join(f"{way} {float(landscape.full_losses.min()):.4f}" for way, landscape, _ in self._ways())
        return [
            *(self._better(s) for s in self.budgets),
            Finding("best loss at full fidelity", "not compared", bests),
        ]

    def _better(self, s: int) -> Finding:
        """Return which way ranks better at one budget."""
        first = self.landscapes[0]
        layers, samples = first.layers, first.samples
        # Full training has nothing frozen and ranks itself perfectly: below it there is something to compare.
        cells = [(z, s) for z in range(len(layers)) if (z, s) != (len(layers) - 1, len(samples) - 1)]
        better = [layers[z] for z, s in cells if self.gains.low[z, s] > 0]
        worse = [layers[z] for z, s in cells if self.gains.high[z, s] < 0]
        sentences = [
            f"{way} ranks better at {', '.join(map(str, numbers))} layers"
            for way, numbers in zip(self.choice.ways, (better, worse), strict=True)
            if numbers
        ]
        largest = max(cells, key=lambda cell: abs(float(self.gains.value[cell])))
        head_alone = ", ".join(
            f"{way} {with_interval(ranked.spearman, (0, s))}" for way, _, ranked in self._ways()
        )
        return Finding(
            f"{samples[s]:,} {first.sample_unit}: which ranks better",
            self.choice.paper,
            f"{'; '.join(sentences) or 'no difference that the intervals show'}; the largest difference, with "
            f"{counted(layers[largest[0]], 'layer')}, {with_interval(self.gains, largest)}; with one layer {head_alone}",
            Verdict.SHOWN if better or worse else Verdict.UNCLEAR,
        )

    def _drawing(self, s: int) -> Section:
        first = self.landscapes[0]
        lines = {
            way: (landscape.layers, at(ranked.spearman, (slice(None), s)))
            for way, landscape, ranked in self._ways()
        }
        figure = lines_with_intervals(lines, x_title="trained layers", y_title="Spearman's ρ with full fidelity")
        return figure_section(f"{first.samples[s]:,} {first.sample_unit}", figure, note="Bars: 95 % intervals.")
