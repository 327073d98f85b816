"""The whole audit of a landscape: how well each cell ranks, how sure that is, and what to beware of, in plain words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from frostline.audit.agreement import Agreement, agreement
from frostline.audit.findings import Finding
from frostline.audit.monotonicity import monotonicity
from frostline.audit.noise import SeedNoise, seed_noise
from frostline.audit.optima import Optimum, move_sentences, optima
from frostline.wording import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from frostline.audit.landscape import Landscape

    Array = NDArray[np.float64]

WEAK = 0.6
"""A rank correlation below which a cell decides by luck: the lowest of the method's thresholds, and ``GOOD`` the next."""
GOOD = 0.85

_LOW_CEILING = 0.9
_WIDE = 0.4
_MANY_DIVERGED = 0.25
_MOST_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Audit:
    """What a landscape says about freezing as a fidelity."""

    landscape: Landscape
    agreement: Agreement
    noise: SeedNoise | None
    """None: no configuration was trained in full under a second seed."""
    findings: tuple[Finding, ...]
    optima: tuple[Optimum, ...]
    warnings: tuple[str, ...]
    """Sentences, the most important first; none if all is well."""


def audit_of(landscape: Landscape, *, resamples: int = 1000, seed: int = 0) -> Audit:
    """Return what the landscape says; ``resamples`` and ``seed`` are those of the intervals.

    Raises: AuditError below 5 configurations, or if all have the same full loss.
    """
    ranks = agreement(landscape, resamples=resamples, seed=seed)
    noise = seed_noise(landscape, resamples=resamples, seed=seed)
    findings = monotonicity(landscape, resamples=resamples, seed=seed)
    best_values = optima(landscape, resamples=resamples, seed=seed)
    warnings = [
        *_of_ranks(landscape, ranks),
        *_of_divergence(landscape),
        *_of_noise(landscape, noise),
        *(finding.sentence for finding in findings if not finding.holds),
        *(sentence for optimum in best_values for sentence in move_sentences(optimum, landscape)),
        *_of_width(ranks),
    ]
    return Audit(
        landscape=landscape,
        agreement=ranks,
        noise=noise,
        findings=findings,
        optima=best_values,
        warnings=tuple(warnings),
    )


def _of_ranks(landscape: Landscape, ranks: Agreement) -> list[str]:
    below_full = ranks.spearman.value.copy()
    if below_full.size == 1:
        return []
    below_full[-1, -1] = np.nan
    sentences = []
    if np.nanmax(below_full) < GOOD:
        best = np.unravel_index(np.nanargmax(below_full), below_full.shape)
        sentences.append(
            f"No cheaper cell ranks as full training does: the best, {_cell(landscape, best)}, reaches ρ "
            f"{below_full[best]:.2f} [{ranks.spearman.low[best]:.2f}, {ranks.spearman.high[best]:.2f}], "
            f"where {GOOD} would do."
        )
    weak = below_full < WEAK
    if weak.any():
        worst = np.unravel_index(np.nanargmin(below_full), below_full.shape)
        where = [
            f"with {counted(landscape.layers[z], 'layer')} on {_budgets(landscape, weak[z])}"
            for z in np.flatnonzero(weak.any(axis=1))
        ]
        num_more = len(where) - _MOST_NAMED
        more = (
            [f"and {num_more} more {'number' if num_more == 1 else 'numbers'} of layers"] if num_more > 0 else []
        )
        sentences.append(
            f"{weak.sum()} of {weak.size} cells rank too badly to decide anything (ρ below {WEAK}): "
            f"{', '.join([*where[:_MOST_NAMED], *more])}. The least is {below_full[worst]:.2f} "
            f"[{ranks.spearman.low[worst]:.2f}, {ranks.spearman.high[worst]:.2f}], {_cell(landscape, worst)}."
        )
    return sentences


def _of_divergence(landscape: Landscape) -> list[str]:
    number = landscape.num_configurations
    diverged = int(np.isinf(landscape.full_losses).sum())
    if diverged < _MANY_DIVERGED * number:
        return []
    return [
        f"{diverged} of {number} configurations diverged in full training and are tied for the last place: ranks say "
        f"little more than which ones those are, so narrow the search space."
    ]


def _of_noise(landscape: Landscape, noise: SeedNoise | None) -> list[str]:
    if noise is None:
        return [
            "The seed's own noise was not measured, so how finely full training itself ranks is not known: repeat some full "
            "trainings under other seeds."
        ]
    number = landscape.num_configurations
    sentences = []
    if noise.ceiling is not None and noise.ceiling.value < _LOW_CEILING:
        among = "all" if noise.num_repeated == number else f"the {noise.num_repeated} that were repeated of"
        sentences.append(
            f"Full training does not rank as itself under another seed: ρ {noise.ceiling.value:.2f} "
            f"[{noise.ceiling.low:.2f}, {noise.ceiling.high:.2f}] over {among} {number} configurations. A "
            f"cell that agrees better shares the seed, and says no more about the configurations."
        )
    full = landscape.full_losses
    close = int((full <= full.min() + noise.tolerance).sum())
    if close > 1:
        sentences.append(
            f"{close} of {number} configurations lie within seed noise ({noise.tolerance:.3g}) of the best: which "
            f"of them wins is chance, and any of them will do."
        )
    if noise.num_unstable:
        sentences.append(
            f"{noise.num_unstable} of {noise.num_repeated} repeated configurations diverged under some seeds and not under "
            f"others."
        )
    return sentences


def _of_width(ranks: Agreement) -> list[str]:
    width = float(np.median(ranks.spearman.high - ranks.spearman.low))
    if width <= _WIDE:
        return []
    return [
        f"{ranks.num_configurations} configurations are few: the 95 % intervals of ρ are {width:.2f} wide in the median. "
        f"Audit more to tell cells apart."
    ]


def _cell(landscape: Landscape, cell: tuple[np.intp, ...]) -> str:
    return (
        f"{counted(landscape.layers[cell[0]], 'layer')} on {landscape.samples[cell[1]]:,} {landscape.sample_unit}"
    )


def _budgets(landscape: Landscape, weak: NDArray[np.bool_]) -> str:
    """Return the budgets as a range where they are one from the lowest, else as they are."""
    budgets = [landscape.samples[index] for index in np.flatnonzero(weak)]
    if len(budgets) == len(landscape.samples):
        return f"any number of {landscape.sample_unit}"
    if weak[: len(budgets)].all() and len(budgets) > 1:
        return f"up to {budgets[-1]:,} {landscape.sample_unit}"
    return f"{', '.join(f'{budget:,}' for budget in budgets)} {landscape.sample_unit}"
