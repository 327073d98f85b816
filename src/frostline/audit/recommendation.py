"""The ladder that an audit recommends: the chain of measured cells that finds as good a configuration for the least seconds.

Axes: B draws of M configurations each, C configurations of the landscape.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from frostline.audit.agreement import require_rankings
from frostline.audit.chains import Chains, Plan, is_below
from frostline.audit.noise import seed_noise
from frostline.errors import AuditError
from frostline.search.algorithms.halving import CONFIGURATIONS, divided
from frostline.search.ladder import Ladder
from frostline.statistics.ranks import FEWEST

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from frostline.audit.landscape import Landscape

    Array = NDArray[np.float64]

_DRAWS = 500
# The chance of ending within seed noise of the best, less one standard error, that a recommended ladder must have.
_CHANCE = 0.8
# Where seed noise was not measured: this share of the distance between the quartiles of the full scores.
_SHARE_OF_SPREAD = 0.05
_FEWEST_CLIMBING = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderOutcome:
    """What successive halving on a ladder comes to, by the measured scores and costs.

    Units: ``seconds`` of the whole search; ``full_trainings`` the same in full trainings; ``regret`` the mean distance of
    its final choice from the best of the configurations it began with, in units of the score; ``chance`` that this is
    within the tolerance, ``error`` the standard error of that, over configurations.
    """

    name: str
    ladder: Ladder
    reduction_factor: int
    configurations: int
    seconds: float
    full_trainings: float
    regret: float
    chance: float
    error: float

    @property
    def quotas(self) -> tuple[int, ...]:
        """How many configurations each rung evaluates."""
        return divided(self.configurations, len(self.ladder.rungs), self.reduction_factor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """The recommended ladder, beside others. ``reaches`` says whether it has the chance that was asked for."""

    chosen: LadderOutcome
    compared: tuple[LadderOutcome, ...]
    """Diagonal, layers-only and samples-only ladders, as far as the grid has such and the draws tell of them."""
    random_chance: float
    """The chance of as many random full trainings as the chosen ladder costs, at least one."""
    tolerance: float
    reaches: bool


def recommend(
    landscape: Landscape, *, configurations: int = CONFIGURATIONS, tolerance: float | None = None, seed: int = 0
) -> Recommendation:
    """Return the ladder and reduction factor with the least seconds that end within ``tolerance`` of the best.

    Chains of up to three cells below full fidelity are simulated, the cheapest first, on random halves of the landscape's
    configurations: as many are promoted, in proportion, as of ``configurations``, and one at least. Halves, because the
    best of them is another one each time: a chain that suits one lucky configuration does not pass. The first whose chance
    is high enough by one standard error (a jackknife over configurations) is taken; if there is none, as of fewer than ten
    configurations, the surest. ``tolerance`` is by default that of the seed noise (``audit/noise.py``), or a twentieth of
    the spread between quartiles where that is unknown.
    Raises: AuditError if the landscape has fewer than five configurations, no cell below full fidelity, or no known cost, or
    was trained by factors drawn for each configuration; and if fewer than two configurations are to climb.
    """
    bench = _Bench.of(landscape, configurations, tolerance=tolerance, seed=seed)
    chosen, tried = bench.cheapest_sure(bench.chains.shallow())
    if chosen is None:
        chosen = max(tried, key=lambda outcome: (outcome.chance - outcome.error, -outcome.seconds))
    else:
        chosen = bench.cheapest_sure(bench.chains.deep(below=chosen.seconds))[0] or chosen
    return Recommendation(
        chosen=bench.public(chosen, "recommended"),
        compared=tuple(bench.public(outcome, name) for name, outcome in bench.familiar()),
        random_chance=bench.random_chance(chosen.seconds),
        tolerance=bench.tolerance,
        reaches=chosen.is_sure,
    )


@dataclass(frozen=True, slots=True)
class _Outcome:
    plan: Plan
    seconds: float
    regret: float
    chance: float
    error: float

    @property
    def is_sure(self) -> bool:
        return self.chance - self.error >= _CHANCE


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bench:
    """Draws of configurations, the same for all plans: comparisons are paired."""

    landscape: Landscape
    configurations: int
    tolerance: float
    drawn: NDArray[np.intp]
    """(B, M), indices of configurations."""
    absent: NDArray[np.bool_]
    """(B, C), which configurations are not in each draw."""
    spread: Array
    """(B,), uniform: how a fraction of a configuration is rounded in each draw."""
    losses: Array
    """(Z, S, B, M)."""
    ranks: NDArray[np.int16]
    """(Z, S, B, M), within the draw, from 0; ties in the order in which they were drawn."""
    chains: Chains

    @classmethod
    def of(cls, landscape: Landscape, configurations: int, *, tolerance: float | None, seed: int) -> _Bench:
        require_rankings(landscape)
        if configurations < _FEWEST_CLIMBING:
            raise AuditError(
                f"a ladder for {configurations} configuration was asked for, but halving leaves some behind: ask for "
                f"{_FEWEST_CLIMBING} or more."
            )
        total = landscape.num_configurations
        if total < FEWEST:
            raise AuditError(
                f"the landscape has {total} configurations, but a ladder chosen from fewer than {FEWEST} would be chance: "
                f"audit more."
            )
        if landscape.scores[0].size < 2:
            raise AuditError("the landscape has no cell below full fidelity: audit more layers or budgets.")
        if np.isnan(landscape.seconds).all(axis=0).any():
            raise AuditError("the landscape holds cells without seconds: a ladder cannot be chosen by its cost.")
        seconds = np.nanmean(landscape.seconds, axis=0)
        generator = np.random.default_rng(seed)
        size = min(configurations, max(FEWEST, total // 2))
        drawn = generator.permuted(np.tile(np.arange(total), (_DRAWS, 1)), axis=1)[:, :size]
        absent = np.ones((_DRAWS, total), dtype=bool)
        np.put_along_axis(absent, drawn, values=False, axis=1)
        losses = np.moveaxis(landscape.losses, 0, -1)[..., drawn]
        return cls(
            landscape=landscape,
            configurations=configurations,
            tolerance=_tolerance(landscape) if tolerance is None else tolerance,
            drawn=drawn,
            absent=absent,
            spread=generator.random(_DRAWS),
            losses=losses,
            ranks=losses.argsort(axis=-1, kind="stable").argsort(axis=-1, kind="stable").astype(np.int16),
            chains=Chains(seconds=seconds, configurations=configurations),
        )

    def cheapest_sure(self, plans: Iterable[Plan]) -> tuple[_Outcome | None, list[_Outcome]]:
        """Return the cheapest of ``plans`` that is sure enough, if there is one, and all that had to be tried."""
        tried = []
        for plan in sorted(filter(self.is_told, plans), key=self.chains.seconds_of):
            tried.append(self.outcome(plan))
            if tried[-1].is_sure:
                return tried[-1], tried
        return None, tried

    def is_told(self, plan: Plan) -> bool:
        """Return whether a draw is large enough to replay a plan: of it every rung trains one configuration at least.

        One of twelve is far more likely to be a good one than one of 27 is, which is what is asked.
        """
        fewest = divided(self.configurations, len(plan.chain) + 1, plan.factor)[-1]
        num_drawn: int = self.drawn.shape[1]
        return fewest * num_drawn >= self.configurations

    def outcome(self, plan: Plan) -> _Outcome:
        """Return what successive halving comes to in every draw, in the mean."""
        num_drawn = self.drawn.shape[1]
        quotas = divided(self.configurations, len(plan.chain) + 1, plan.factor)
        alive = np.ones(self.drawn.shape, dtype=bool)
        for cell, quota in zip(plan.chain, quotas[1:], strict=True):
            exact = num_drawn * quota / self.configurations
            kept = np.floor(exact + self.spread).astype(int)
            ranks = np.where(alive, self.ranks[cell], num_drawn)
            last = np.take_along_axis(np.sort(ranks, axis=-1), kept[:, None] - 1, axis=-1)
            alive &= ranks <= last
        full = self.losses[-1, -1]
        best = full.min(axis=1)
        picked = np.where(alive, full, np.inf).min(axis=1)
        # Where all diverged there was nothing to lose.
        regret = np.where(np.isfinite(best), picked - np.where(np.isfinite(best), best, 0.0), 0.0)
        success = regret <= self.tolerance
        chance = float(success.mean())
        finite = regret[np.isfinite(regret)]
        return _Outcome(
            plan=plan,
            seconds=self.chains.seconds_of(plan),
            regret=float(finite.mean()) if len(finite) == len(regret) else float("inf"),
            chance=chance,
            error=self._error(success),
        )

    def random_chance(self, seconds: float) -> float:
        """Return the chance of as many full trainings of random configurations as ``seconds`` pay for."""
        number = max(1.0, seconds / float(self.chains.seconds[-1, -1]))
        full = self.losses[-1, -1]
        count = min(full.shape[1], max(1, round(full.shape[1] * min(1.0, number / self.configurations))))
        # The configurations of a draw are in random order: the first are a random choice.
        return float((full[:, :count].min(axis=1) <= full.min(axis=1) + self.tolerance).mean())

    def familiar(self) -> Iterator[tuple[str, _Outcome]]:
        """Return the usual ladders of three rungs, moved to the nearest measured cells."""
        num_layers, full = self.landscape.layers[-1], self.landscape.samples[-1]
        factor = 3
        makers = {
            "diagonal": Ladder.diagonal,
            "layers-only": Ladder.layers_only,
            "samples-only": Ladder.samples_only,
        }
        for name, make in makers.items():
            try:
                rungs = make(num_layers=num_layers, full_samples=full).rungs[:-1]
            except ValueError:
                continue
            chain = tuple(self.landscape.nearest_cell(rung) for rung in rungs)
            rises = all(is_below(lower, upper) for lower, upper in pairwise((*chain, self.chains.full)))
            plan = Plan(chain, factor)
            if rises and self.configurations >= factor ** len(chain) and self.is_told(plan):
                yield name, self.outcome(plan)

    def public(self, outcome: _Outcome, name: str) -> LadderOutcome:
        cells = (*outcome.plan.chain, self.chains.full)
        ladder = Ladder.explicit(
            [(self.landscape.layers[z], self.landscape.samples[s]) for z, s in cells],
            num_layers=self.landscape.layers[-1],
            full_samples=self.landscape.samples[-1],
        )
        return LadderOutcome(
            name=name,
            ladder=ladder,
            reduction_factor=outcome.plan.factor,
            configurations=self.configurations,
            seconds=outcome.seconds,
            full_trainings=outcome.seconds / float(self.chains.seconds[-1, -1]),
            regret=outcome.regret,
            chance=outcome.chance,
            error=outcome.error,
        )

    def _error(self, success: NDArray[np.bool_]) -> float:
        """Return the standard error of the chance over configurations."""
        total, num_drawn = self.absent.shape[1], self.drawn.shape[1]
        # Draws of more than half have most in common, and all succeed or fail together: no more is known of the chance than
        # as many coins as make up a half would tell.
        least = 0.5 / math.sqrt(total // 2) if num_drawn > total // 2 else 0.0
        return max(least, self._jackknife(success))

    def _jackknife(self, success: NDArray[np.bool_]) -> float:
        """Return the standard error of the chance over configurations, from the draws that each is not in."""
        total = self.landscape.num_configurations
        without = self.absent.sum(axis=0)
        if (without == 0).any():
            return 0.0
        chances = (success[:, None] & self.absent).sum(axis=0) / without
        variance = (total - 1) / total * ((chances - chances.mean()) ** 2).sum()
        # Part of it comes from the number of draws, not from the configurations.
        share = success.mean()
        of_draws = share * (1 - share) * (1 / without - 1 / len(success)).sum() * (total - 1) / total
        return float(np.sqrt(max(0.0, variance - of_draws)))


def _tolerance(landscape: Landscape) -> float:
    noise = seed_noise(landscape)
    if noise is not None:
        return noise.tolerance
    finite = landscape.full_losses[np.isfinite(landscape.full_losses)]
    if len(finite) < 2:
        return 0.0
    lower, upper = np.quantile(finite, [0.25, 0.75])
    return float(_SHARE_OF_SPREAD * (upper - lower))
