"""The sections of an audit that are maps: agreement, cost, thresholds, and where the best values lie."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from frostline.audit.optima import move_sentences
from frostline.pages.page import Section, drawn, folded, multiples, note, table
from frostline.report.maps import (
    DrawnLadder,
    cell_texts,
    grid_of,
    ladder_key,
    share,
    spearman_hovers,
    threshold_key,
    threshold_map,
    value_map,
)
from frostline.report.verdict import cost_shares, noise_sentence
from frostline.sizes import format_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from frostline.audit.agreement import Agreement
    from frostline.audit.landscape import Landscape
    from frostline.audit.noise import SeedNoise
    from frostline.audit.optima import Optimum

    Array = NDArray[np.float64]

_THRESHOLDS = (0.6, 0.85, 0.95)
# A diverging scale of blue and orange, which any eye tells apart.
_DIVERGING = ("rgb(0, 114, 178)", "rgb(255, 255, 255)", "rgb(230, 159, 0)")
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
    found = agreement.spearman
    # Most cells rank better than this: the colours are for what differs.
    lowest = min(_LOWEST_COLOUR, math.floor(10 * float(found.value.min())) / 10)
    figure = value_map(
        landscape,
        found.value,
        texts=grid_of(found.value, ".2f"),
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
    parts = (
        note(text),
        note(noise_sentence(noise)),
        drawn(figure, label),
        ladder_key(ladders),
        folded(
            "All measures of agreement, with 95 % intervals, as a table",
            _measures(landscape, agreement),
            is_long=found.value.size > _MOST_PRINTED,
        ),
    )
    return Section(heading="How well each fidelity ranks", parts=parts)


def thresholds_section(landscape: Landscape, agreement: Agreement, ladders: Sequence[DrawnLadder]) -> Section:
    """Return the maps of where the rank correlation reaches each threshold."""
    figures = [
        drawn(
            threshold_map(landscape, agreement, threshold, ladders),
            f"Map: the cells whose rank correlation reaches {threshold}.",
            caption=f"ρ ≥ {threshold}",
        )
        for threshold in _THRESHOLDS
    ]
    return Section(
        heading="Where the ranking is good enough",
        parts=(threshold_key(), multiples(figures), ladder_key(ladders)),
    )


def cost_section(landscape: Landscape, ladders: Sequence[DrawnLadder]) -> Section:
    """Return the map of what each cell costs."""
    heading = "What each fidelity costs"
    known = cost_shares(landscape)
    if known is None:
        return Section(
            heading=heading, parts=(note("Not told: neither seconds nor FLOPs are known of every cell."),)
        )
    shares, measure = known
    seconds = _known_mean(landscape.seconds)
    flops, peak = _known_mean(landscape.flops), _known_mean(landscape.peak_bytes)

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
    rows = [
        (f"{layers}", *(f"{100 * shares[z, s]:.1f}" for s in range(len(landscape.samples))))
        for z, layers in enumerate(landscape.layers)
    ]
    header = ("layers", *(share(landscape, s) for s in range(len(landscape.samples))))
    parts = (
        note(text),
        drawn(figure, f"Map: {text}"),
        ladder_key(ladders),
        folded("The shares as a table, in per cent", table(header, rows)),
    )
    return Section(heading=heading, parts=parts)


def other_measures_section(landscape: Landscape, agreement: Agreement) -> Section:
    """Return maps of what a cell is worth for choosing: pairs kept in order, best ones recalled, regret."""
    regret = agreement.regret.value
    finite = regret[np.isfinite(regret)]
    most = float(finite.max()) if finite.size else 1.0
    maps = (
        ("Pairs in the right order", agreement.pair_order, (0.5, 1.0), ".2f", "Cividis"),
        (f"Best {agreement.top_k} recalled", agreement.top_recall, (0.0, 1.0), ".2f", "Cividis"),
        ("Regret of the pick", agreement.regret, (0.0, most or 1.0), ".2g", "Cividis_r"),
    )
    figures = []
    for name, estimate, limits, form, scale in maps:
        hovers = cell_texts(
            landscape,
            lambda z, s, one=estimate: f"{one.value[z, s]:.4g}, 95 %: {one.low[z, s]:.4g} to {one.high[z, s]:.4g}",
        )
        # Regret in the cells of a small map would be unreadable: it has any number of digits.
        texts = grid_of(estimate.value, form) if form == ".2f" else _blank(estimate.value)
        figure = value_map(
            landscape, estimate.value, texts=texts, hovers=hovers, limits=limits, scale=scale, height=_MAP_HEIGHT
        )
        figures.append(drawn(figure, f"Map: {name}; the table of agreement has the numbers.", caption=name))
    text = (
        "The probability that two configurations keep their order; the share of the best at full fidelity that are among "
        "the cell's best; and how much worse the final score is if this cell alone chooses (darker is worse; the largest "
        f"here: {most:.3g})."
    )
    return Section(heading="What each fidelity is worth for choosing", parts=(note(text), multiples(figures)))


def optima_section(landscape: Landscape, optima: Sequence[Optimum]) -> Section:
    """Return, for every hyperparameter, where its best value sits at each cell against full fidelity."""
    heading = "Where the best values sit"
    if not optima:
        return Section(heading=heading, parts=(note("Not told: no hyperparameter has more than one choice."),))
    text = (
        "How far the mean of the best quarter of configurations lies from where it is at full fidelity: blue is lower, "
        "orange higher, white the same; in decades where the range is logarithmic (1 is ten times), of a choice the share "
        "that takes it. Cells have a number where their own 95 % interval leaves out no shift. A moved optimum reads as a "
        "bad rank correlation."
    )
    rows = [
        (one.name, _at_full(one), " ".join(move_sentences(one, landscape)) or "no move beyond chance")
        for one in optima
    ]
    header = ("hyperparameter", "best at full fidelity", "does it move? (tested over all cells)")
    parts = (
        note(text),
        multiples([_shift_map(landscape, one) for one in optima]),
        table(header, rows, words=(0, 1, 2)),
    )
    return Section(heading=heading, parts=parts)


def _at_full(one: Optimum) -> str:
    value = float(one.value.value[-1, -1])
    if one.scale == "log":
        return f"{10**value:.3g}"
    return f"{value:.3g}" if one.scale == "linear" else f"{one.choice} ({100 * value:.0f} % of the best)"


def _shift_map(landscape: Landscape, one: Optimum) -> str:
    shift, low, high = one.shift.value, one.shift.low, one.shift.high
    unit = " decades" if one.scale == "log" else ""
    sure = (low > 0) | (high < 0)
    most = float(np.abs(shift).max()) or 1.0
    form = "+.1f" if most >= 1 else "+.2f"
    written = sure & (most >= _TELLABLE)
    texts = [
        [format(shift[z, s], form).replace("0.", ".") if written[z, s] else "" for s in range(shift.shape[1])]
        for z in range(shift.shape[0])
    ]
    hovers = cell_texts(
        landscape, lambda z, s: f"shift {shift[z, s]:+.3g}{unit}, 95 %: {low[z, s]:+.3g} to {high[z, s]:+.3g}"
    )
    figure = value_map(
        landscape, shift, texts=texts, hovers=hovers, limits=(-most, most), scale=_DIVERGING, height=_MAP_HEIGHT
    )
    name = one.name if one.choice is None else f"{one.name}: {one.choice}"
    label = f"Map: how far the best {name} lies from that at full fidelity; the table says where it moves."
    return drawn(figure, label, caption=f"{name} (±{most:.2g}{unit})")


def _measures(landscape: Landscape, agreement: Agreement) -> str:
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
            *(f"{one.value[z, s]:.2f} ({one.low[z, s]:.2f} to {one.high[z, s]:.2f})" for one in estimates),
        )
        for z, layers in enumerate(landscape.layers)
        for s in range(len(landscape.samples))
    ]
    header = ("layers", landscape.sample_unit, "Spearman", "Kendall", "pairs kept", "best recalled", "regret")
    return table(header, rows)


def _known_mean(of_cells: Array) -> Array:
    """Return the mean over configurations, NaN where no configuration has a value."""
    told = np.isfinite(of_cells).any(axis=0)
    found = np.full(of_cells.shape[1:], np.nan)
    found[told] = np.nanmean(of_cells[:, told], axis=0)
    return found


def _blank(values: Array) -> list[list[str]]:
    return [["" for _ in row] for row in values]
