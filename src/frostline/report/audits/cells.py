"""The sections of an audit that are maps: agreement, cost, thresholds, and where the best values lie."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from frostline.audit.landscape import known_mean
from frostline.audit.optima import move_sentences
from frostline.pages.parts import Figure, Folded, Multiples, Note, Section, Table
from frostline.report.audits.maps import (
    DrawnLadder,
    cell_texts,
    grid_of,
    ladder_key,
    spearman_hovers,
    threshold_key,
    threshold_map,
    value_map,
)
from frostline.report.audits.shares import budget_table, cost_shares, share
from frostline.report.audits.verdict import noise_sentence
from frostline.sizes import format_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.audit.agreement import Agreement
    from frostline.audit.landscape import Landscape
    from frostline.audit.noise import SeedNoise
    from frostline.audit.optima import Optimum
    from frostline.statistics.bootstrap import Estimate

_THRESHOLDS = (0.6, 0.85, 0.95)
# A diverging scale of blue and orange, which any eye tells apart.
_DIVERGING = ["rgb(0, 114, 178)", "rgb(255, 255, 255)", "rgb(230, 159, 0)"]
_MAP_HEIGHT = 260
_LOWEST_COLOUR = 0.5
# A smaller shift has no place in a cell.
_TELLABLE = 0.01
# A table of more rows is not printed.
_MOST_PRINTED = 40


def agreement_section(
    landscape: Landscape, agreement: Agreement, noise: SeedNoise | None, ladders: Sequence[DrawnLadder]
) -> Section:
    """Return the map of rank correlations, what seed noise allows, and every measure as a table."""
    spearman = agreement.spearman.value
    # Most cells rank better than this: the colours are for what differs.
    lowest = min(_LOWEST_COLOUR, math.floor(10 * float(spearman.min())) / 10)
    figure = value_map(
        landscape,
        spearman,
        texts=grid_of(spearman, ".2f"),
        hovers=spearman_hovers(landscape, agreement),
        limits=(lowest, 1.0),
        ladders=ladders,
    )
    text = (
        f"Spearman's rank correlation ρ between the scores at each cell and at full fidelity, over "
        f"{agreement.num_configurations} configurations: 1 is the same order, 0 no relation; colours from {lowest:g} to 1. "
        f"Point at a cell for its 95 % interval."
    )
    label = (
        "Map: rank correlation with full training for each number of layers and samples; the table below has it."
    )
    measures = Folded(
        "All measures of agreement, with 95 % intervals, as a table",
        _measures(landscape, agreement),
        is_long=spearman.size > _MOST_PRINTED,
    )
    return Section(
        "How well each fidelity ranks",
        [Note(text), Note(noise_sentence(noise)), Figure(figure, label), ladder_key(ladders), measures],
    )


def thresholds_section(landscape: Landscape, agreement: Agreement, ladders: Sequence[DrawnLadder]) -> Section:
    """Return the maps of where the rank correlation reaches each threshold."""
    figures = [
        Figure(
            threshold_map(landscape, agreement, threshold, ladders),
            f"Map: the cells whose rank correlation reaches {threshold}.",
            caption=f"ρ ≥ {threshold}",
        )
        for threshold in _THRESHOLDS
    ]
    return Section("Where the ranking is good enough", [threshold_key(), Multiples(figures), ladder_key(ladders)])


def cost_section(landscape: Landscape, ladders: Sequence[DrawnLadder]) -> Section:
    """Return the map of what each cell costs."""
    heading = "What each fidelity costs"
    known = cost_shares(landscape)
    if known is None:
        return Section(heading, [Note("Not told: neither seconds nor FLOPs are known of every cell.")])
    shares, measure = known
    seconds, flops, peak = map(known_mean, (landscape.seconds, landscape.flops, landscape.peak_bytes))

    def words(z: int, s: int) -> str:
        lines = [f"{100 * shares[z, s]:.3g} % of a full training by {measure}"]
        lines += [f"{seconds[z, s]:.3g} s"] if np.isfinite(seconds[z, s]) else []
        lines += [f"{flops[z, s]:.3g} FLOPs"] if np.isfinite(flops[z, s]) else []
        lines += [f"{format_size(int(peak[z, s]))} at the peak"] if np.isfinite(peak[z, s]) else []
        return "<br>".join(lines)

    figure = value_map(
        landscape,
        shares,
        texts=grid_of(100 * shares, ".0f"),
        hovers=cell_texts(landscape, words),
        limits=(0.0, 1.0),
        ladders=ladders,
    )
    text = (
        f"Mean {measure} of training one configuration from scratch up to each cell, in per cent of a full training. "
        "Trained together, configurations share the frozen layers' cost: these are their shares, as measured."
    )
    table = budget_table(landscape, 100 * shares, ".1f")
    return Section(
        heading,
        [
            Note(text),
            Figure(figure, f"Map: {text}"),
            ladder_key(ladders),
            Folded("The shares as a table, in per cent", table),
        ],
    )


def other_measures_section(landscape: Landscape, agreement: Agreement) -> Section:
    """Return maps of what a cell is worth for choosing: pairs kept in order, best ones recalled, regret."""
    regret = agreement.regret.value
    finite = regret[np.isfinite(regret)]
    most = float(finite.max()) if finite.size else 1.0
    # Regret in the cells of a small map would be unreadable: it has any number of digits.
    no_texts = [[""] * len(landscape.samples) for _ in landscape.layers]
    maps = (
        ("Pairs in the right order", agreement.pair_order, (0.5, 1.0), "Cividis"),
        (f"Best {agreement.top_k} recalled", agreement.top_recall, (0.0, 1.0), "Cividis"),
        ("Regret of the pick", agreement.regret, (0.0, most or 1.0), "Cividis_r"),
    )
    figures = []
    for name, estimate, limits, scale in maps:
        figure = value_map(
            landscape,
            estimate.value,
            texts=no_texts if estimate is agreement.regret else grid_of(estimate.value, ".2f"),
            hovers=_interval_hovers(landscape, estimate, ".4g"),
            limits=limits,
            scale=scale,
            height=_MAP_HEIGHT,
        )
        figures.append(Figure(figure, f"Map: {name}; the table of agreement has the numbers.", caption=name))
    text = (
        "The probability that two configurations keep their order; the share of the best at full fidelity that are among "
        "the cell's best; and how much worse the final score is if this cell alone chooses (darker is worse; the largest "
        f"here: {most:.3g})."
    )
    return Section("What each fidelity is worth for choosing", [Note(text), Multiples(figures)])


def optima_section(landscape: Landscape, optima: Sequence[Optimum]) -> Section:
    """Return, for every hyperparameter, where its best value sits at each cell against full fidelity."""
    heading = "Where the best values sit"
    if not optima:
        return Section(heading, [Note("Not told: no hyperparameter has more than one choice.")])
    text = (
        "How far the mean of the best quarter of configurations lies from where it is at full fidelity: blue is lower, "
        "orange higher, white the same; in decades where the range is logarithmic (1 is ten times), of a choice the share "
        "that takes it. Cells have a number where their own 95 % interval leaves out no shift. A moved optimum reads as a "
        "bad rank correlation."
    )
    rows = [
        (
            optimum.name,
            _at_full(optimum),
            " ".join(move_sentences(optimum, landscape)) or "no move beyond chance",
        )
        for optimum in optima
    ]
    header = ("hyperparameter", "best at full fidelity", "does it move? (tested over all cells)")
    maps = Multiples([_shift_map(landscape, optimum) for optimum in optima])
    return Section(heading, [Note(text), maps, Table(header, rows, words=(0, 1, 2))])


def _at_full(optimum: Optimum) -> str:
    value = float(optimum.value.value[-1, -1])
    if optimum.scale == "log":
        return f"{10**value:.3g}"
    return f"{value:.3g}" if optimum.scale == "linear" else f"{optimum.choice} ({100 * value:.0f} % of the best)"


def _shift_map(landscape: Landscape, optimum: Optimum) -> Figure:
    shift = optimum.shift.value
    unit = " decades" if optimum.scale == "log" else ""
    sure = (optimum.shift.low > 0) | (optimum.shift.high < 0)
    most = float(np.abs(shift).max()) or 1.0
    written = np.where(sure & (most >= _TELLABLE), shift, np.nan)
    texts = grid_of(written, "+.1f" if most >= 1 else "+.2f")
    figure = value_map(
        landscape,
        shift,
        # No zero before the point: a small map's cells are narrow.
        texts=[[text.replace("+0.", "+.").replace("-0.", "-.") for text in row] for row in texts],
        hovers=_interval_hovers(landscape, optimum.shift, "+.3g", before="shift ", unit=unit),
        limits=(-most, most),
        scale=_DIVERGING,
        height=_MAP_HEIGHT,
    )
    name = optimum.name if optimum.choice is None else f"{optimum.name}: {optimum.choice}"
    label = f"Map: how far the best {name} lies from that at full fidelity; the table says where it moves."
    return Figure(figure, label, caption=f"{name} (±{most:.2g}{unit})")


def _interval_hovers(
    landscape: Landscape, estimate: Estimate, form: str, *, before: str = "", unit: str = ""
) -> list[list[str]]:
    return cell_texts(
        landscape,
        lambda z, s: (
            f"{before}{estimate.value[z, s]:{form}}{unit}, "
            f"95 %: {estimate.low[z, s]:{form}} to {estimate.high[z, s]:{form}}"
        ),
    )


def _measures(landscape: Landscape, agreement: Agreement) -> Table:
    estimates = (
        agreement.spearman,
        agreement.kendall,
        agreement.pair_order,
        agreement.top_recall,
        agreement.regret,
    )
    rows = [
        (
            f"{layers}",
            share(landscape, s),
            *(
                f"{estimate.value[z, s]:.2f} ({estimate.low[z, s]:.2f} to {estimate.high[z, s]:.2f})"
                for estimate in estimates
            ),
        )
        for z, layers in enumerate(landscape.layers)
        for s in range(len(landscape.samples))
    ]
    header = ("layers", landscape.sample_unit, "Spearman", "Kendall", "pairs kept", "best recalled", "regret")
    return Table(header, rows)
