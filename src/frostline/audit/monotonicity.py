"""Does more fidelity tell more, do better, and cost more? The method's conditions on a fidelity, tested and put in words.

Axes: C configurations, Z numbers of trained layers, S budgets of samples, B resamples of the configurations. What works
along either axis of the grid calls it A, and the other one X.
Source: Carstensen et al. 2025, arXiv:2504.10735: cost monotonicity and information monotonicity.
"""

from __future__ import annotations

from itertools import combinations, pairwise
from typing import TYPE_CHECKING

import numpy as np

from frostline.audit.agreement import require_enough
from frostline.audit.findings import Axis, Fall, Finding, Grid
from frostline.audit.landscape import known_mean
from frostline.statistics.bootstrap import (
    estimate_of,
    fall_probabilities,
    holm,
    resampled_counts,
    sign_interval,
    sign_probability,
)
from frostline.statistics.ranks import rank_correlation_replicates

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from frostline.audit.landscape import Landscape

    Array = NDArray[np.float64]

_NEGLIGIBLE = 0.05
"""By a smaller share a cost may fall: all layers, and all but a tied embedding, cost the same but for the clock's whims."""

_VISIBLE = 0.03
"""A smaller fall of a rank correlation nobody sees on a map."""


def monotonicity(landscape: Landscape, *, resamples: int = 1000, seed: int = 0) -> tuple[Finding, ...]:
    """Return whether ranks and losses get better, and costs rise, with the layers and with the samples.

    An axis of one level has no finding, and neither has the axis of samples for losses.
    Raises: AuditError below 5 configurations.
    """
    require_enough(landscape.num_configurations, "the audit has")
    axes: list[Axis] = []
    axes += ["layers"] if len(landscape.layers) > 1 else []
    axes += ["samples"] if len(landscape.samples) > 1 else []
    counts = resampled_counts(landscape.num_configurations, resamples=resamples, seed=seed)
    losses = np.moveaxis(landscape.losses, 0, -1)
    correlations = rank_correlation_replicates(losses, landscape.full_losses, counts)
    findings = [_information(Grid(landscape, axis), correlations) for axis in axes]
    findings += [_performance(Grid(landscape, axis)) for axis in axes if axis == "layers"]
    findings += [finding for axis in axes if (finding := _cost(Grid(landscape, axis))) is not None]
    return tuple(findings)


def _information(grid: Grid, correlations: Array) -> Finding:
    """Test whether the rank correlation falls: between all levels in the mean, and between neighbours at every place."""
    rho = grid.turned(correlations).copy()
    # With itself full fidelity agrees by construction, which says nothing.
    rho[:, -1, -1] = np.nan
    num_levels, num_places = rho.shape[1:]
    pairs = [(a, b, None) for a, b in combinations(range(num_levels), 2)]
    cells = [(a, a + 1, x) for a in range(num_levels - 1) for x in range(num_places)]
    tests, rises = [], []
    for lower, higher, place in [*pairs, *(cells if num_places > 1 else [])]:
        rise = rho[:, higher] - rho[:, lower]
        places = [place] if place is not None else list(np.flatnonzero(~np.isnan(rise[0])))
        if places and not np.isnan(rise[0, places]).any():
            tests.append((lower, higher, place))
            rises.append(rise[:, places].mean(axis=1))
    candidates: list[Fall] = []
    significant = np.zeros(len(tests), dtype=bool)
    if tests:
        replicates = np.stack(rises, axis=1)
        estimates = estimate_of(replicates)
        significant = holm(fall_probabilities(replicates)) & (estimates.high < 0)
        candidates = [
            Fall(
                lower=grid.along[lower],
                higher=grid.along[higher],
                at=None if place is None else grid.across[place],
                difference=float(estimates.value[index]),
                low=float(estimates.low[index]),
                high=float(estimates.high[index]),
            )
            for index, (lower, higher, place) in enumerate(tests)
        ]
    falls = [fall for fall, is_real in zip(candidates, significant, strict=True) if is_real]
    falls.sort(key=lambda fall: (fall.at is not None, fall.difference))
    return Finding(
        name=f"information in {grid.axis}",
        axis=grid.axis,
        holds=not falls,
        sentence=_information_sentence(grid, rho[0], falls, candidates),
        num_tests=len(tests),
        falls=tuple(falls),
    )


def _information_sentence(grid: Grid, rho: Array, falls: list[Fall], tested: list[Fall]) -> str:
    more = "more layers" if grid.axis == "layers" else f"on more {grid.landscape.sample_unit}"
    lowest, highest = (
        float(np.mean(row[~np.isnan(row)])) if (~np.isnan(row)).any() else 1.0 for row in (rho[0], rho[-1])
    )
    rise = (
        f"{grid.place(None)} ρ with full training goes from {_rho(lowest)} with {grid.level(grid.along[0])} to "
        f"{_rho(highest)} with {grid.level(grid.along[-1])}"
    )
    if falls:
        worst = falls[0]
        return (
            f"Training {more} ranks worse in places: {grid.place(worst.at)} ρ with full training is lower with "
            f"{grid.level(worst.higher)} than with {grid.level(worst.lower)}, by {_by(worst)}, and {len(falls)} of "
            f"{len(tested)} tests find such a fall beyond chance; {rise}."
        )
    # In the mean over the other axis alone: the largest of all cells is large by chance.
    seen = min((fall for fall in tested if fall.at is None), key=lambda fall: fall.difference, default=None)
    within_chance = ""
    if seen is not None and seen.difference < -_VISIBLE:
        between = f"from {grid.level(seen.lower)} to {grid.level(seen.higher)}"
        within_chance = f" (the largest seen, {between} by {_by(seen)}, is within it)"
    return (
        f"Training {more} does not rank worse: none of {len(tested)} tests on {grid.landscape.num_configurations} "
        f"configurations finds a fall beyond chance{within_chance}; {rise}."
    )


def _by(fall: Fall) -> str:
    return f"{_rho(-fall.difference)} [{_rho(-fall.high)}, {_rho(-fall.low)}]"


def _rho(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def _performance(grid: Grid) -> Finding:
    """Test for every two numbers of layers, on every budget, whether most configurations do worse with the more."""
    losses = grid.turned(grid.landscape.losses)
    pairs = list(combinations(range(len(grid.along)), 2))
    falls, num_tests = _sign_falls(grid, losses, pairs)
    sentence = (
        f"At equal {grid.landscape.sample_unit}, no number of layers does worse than a smaller one: none of {num_tests} "
        f"comparisons finds it for most configurations, beyond chance."
    )
    if falls:
        worst = falls[0]
        budgets = sorted({fall.at for fall in falls if fall.at is not None})
        unit = grid.landscape.sample_unit
        span = f" between {budgets[0]:,} and {budgets[-1]:,} {unit}" if len(budgets) > 1 else ""
        sentence = (
            f"At equal {unit}, fewer layers do better than more in {len(falls)} of {num_tests} comparisons{span}: most of "
            f"all {grid.place(worst.at)}, where {grid.level(worst.lower)} beat {grid.level(worst.higher)} for "
            f"{worst.num_falling} of {grid.landscape.num_configurations} configurations, by {worst.difference:.3g} in the "
            f"median. Compare scores within one rung only."
        )
    return Finding(
        name=f"performance in {grid.axis}",
        axis=grid.axis,
        holds=not falls,
        sentence=sentence,
        num_tests=num_tests,
        falls=tuple(falls),
    )


def _sign_falls(grid: Grid, losses: Array, pairs: list[tuple[int, int]]) -> tuple[list[Fall], int]:
    """Return where most configurations lose from a level to a higher one, the largest first, and how many tests were made.

    The sign test asks nothing of the losses (C, A, X): they may be infinite. NaN: not known.
    """
    falls, probabilities = [], []
    for lower, higher in pairs:
        for place in range(losses.shape[2]):
            before, after = losses[:, lower, place], losses[:, higher, place]
            known = ~(np.isnan(before) | np.isnan(after))
            before, after = before[known], after[known]
            num_falling, num_different = int((after > before).sum()), int((after != before).sum())
            if not len(before):
                continue
            # Infinite minus infinite is a tie; the median of as many falls as rises without bound is no number.
            with np.errstate(invalid="ignore"):
                differences = np.where(after == before, 0.0, after - before)
                middle = float(np.median(differences))
            low, high = sign_interval(differences)
            probabilities.append(sign_probability(num_falling, num_different))
            falls.append(
                Fall(
                    lower=grid.along[lower],
                    higher=grid.along[higher],
                    at=grid.across[place],
                    difference=middle,
                    low=low,
                    high=high,
                    num_falling=num_falling,
                )
            )
    significant = holm(np.array(probabilities))
    real = [fall for fall, is_real in zip(falls, significant, strict=True) if is_real and fall.difference > 0]
    return sorted(real, key=lambda fall: -fall.difference), len(falls)


def _cost(grid: Grid) -> Finding | None:
    """Test whether seconds fall from a level to the next, and look whether bytes and FLOPs do; None if none is known."""
    seconds = grid.turned(grid.landscape.seconds)
    neighbours = list(pairwise(range(len(grid.along))))
    candidates, num_tests = _sign_falls(grid, -seconds, neighbours)
    middle = _medians(seconds)
    falls = [fall for fall in candidates if fall.difference > _NEGLIGIBLE * _at(middle, grid, fall)]
    sentences = []
    if num_tests:
        # By means, as what each fidelity costs is told everywhere else.
        mean = known_mean(seconds)
        share = mean[0, -1] / mean[-1, -1]
        sentences.append(
            f"{grid.training(grid.along[0])} takes {share:.0%} of the seconds {grid.place(grid.across[-1])}"
        )
        if falls:
            worst = falls[0]
            sentences.append(
                f"but seconds fall from {grid.level(worst.lower)} to {grid.level(worst.higher)}, by "
                f"{worst.difference:.3g} s {grid.place(worst.at)}"
            )
    exact = []
    for name, values in (("peak bytes", grid.landscape.peak_bytes), ("FLOPs", grid.landscape.flops)):
        exact += _exact_falls(grid, name, grid.turned(values))
    if not (num_tests or exact):
        return None
    sentence = "; ".join([*sentences, *exact])
    negated = tuple(
        Fall(
            lower=fall.lower, higher=fall.higher, at=fall.at,
            difference=-fall.difference, low=-fall.high, high=-fall.low, num_falling=fall.num_falling,
        )
        for fall in falls
    )  # fmt: skip
    return Finding(
        name=f"cost in {grid.axis}",
        axis=grid.axis,
        holds=not (falls or exact),
        sentence=f"{sentence[0].upper()}{sentence[1:]}.",
        num_tests=num_tests,
        falls=negated,
    )


def _at(of_cells: Array, grid: Grid, fall: Fall) -> float:
    """Return the value (A, X) at the lower of the two fidelities."""
    assert fall.at is not None
    return float(of_cells[grid.along.index(fall.lower), grid.across.index(fall.at)])


def _exact_falls(grid: Grid, name: str, values: Array) -> list[str]:
    """Say between which neighbours a cost that the clock has no part in falls, where it does the most."""
    middle = _medians(values)
    shares = (middle[:-1] - middle[1:]) / middle[:-1]
    if np.isnan(shares).all() or np.nanmax(shares) <= _NEGLIGIBLE:
        return []
    lower, place = np.unravel_index(np.nanargmax(shares), shares.shape)
    return [
        f"{name} fall by {shares[lower, place]:.0%} from {grid.level(grid.along[lower])} to "
        f"{grid.level(grid.along[lower + 1])} {grid.place(grid.across[place])}"
    ]


def _medians(values: Array) -> Array:
    """Return the median over those configurations (C, A, X) of which it is known, (A, X); NaN if it is of none."""
    middle = np.full(values.shape[1:], np.nan)
    for cell in np.ndindex(middle.shape):
        known = values[(slice(None), *cell)]
        known = known[~np.isnan(known)]
        if len(known):
            middle[cell] = np.median(known)
    return middle
