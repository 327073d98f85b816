"""Methods compared on a recorded table: how long each takes to a configuration as good as the best, over many seeds.

Axes: N seeds, B budgets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from frostline.errors import AuditError, OptionError
from frostline.research.replay.methods import Replayed
from frostline.research.replay.recorded import Goal, RecordedTask, goal_of
from frostline.research.replay.trace import Patience
from frostline.seeding import derive_seed
from frostline.statistics.ranks import FEWEST

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from frostline.audit.landscape import Array, Landscape
    from frostline.research.replay.methods import Method
    from frostline.research.replay.trace import Step, Trace

_RESAMPLES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """How methods are compared. ``budgets`` are in full trainings.

    A goal is met by a configuration within ``tolerance`` of the best loss, or among the best ``share`` of those searched;
    with both 0, by the best alone. ``audited`` configurations, drawn anew for every seed, are set aside: a method that
    recommends a ladder sees them, and no method searches them.
    """

    num_seeds: int = 100
    workers: int = 1
    audited: int = 24
    tolerance: float = 0.0
    share: float = 0.0
    budgets: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 16.0)

    def __post_init__(self) -> None:
        if self.num_seeds < 1 or self.audited < 0:
            raise OptionError(
                f"num_seeds is {self.num_seeds} and audited is {self.audited}: seeds must be at least 1, and what is set "
                "aside at least 0."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A statistic over seeds, and what 95 % of 1000 bootstrap samples of the seeds give. Infinite: never reached."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MethodResult:
    """What one method did. Shapes: ``regrets`` (N, B), all others (N,). Units: seconds on the simulated clock.

    A regret is by how much the full loss of the answer, in the mean over the seeds that were recorded, exceeds the best of
    those searched; infinite where there is no answer yet.
    """

    name: str
    seconds: Array
    """To the goal, restarts included; infinite where the table was exhausted before."""
    run_seconds: Array
    """What a single run takes, without restarts."""
    run_regrets: Array
    run_successes: NDArray[np.bool_]
    """Whether the answer of a single run meets the goal."""
    regrets: Array
    """At equal cost: after each of the budgets."""
    work: Array
    """Seconds that all workers trained, in sum."""

    @property
    def num_censored(self) -> int:
        """In how many seeds the table was exhausted before the goal was met."""
        return int(np.isinf(self.seconds).sum())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparison:
    """The methods' results under the same conditions, all on the same configurations seed by seed."""

    task: str
    conditions: Conditions
    num_searched: int
    full_seconds: float
    """What one full training takes, in the mean over the table."""
    audit_seconds: Array
    """What the audit of the configurations that were set aside would have cost, (N,)."""
    num_good: Array
    """How many of the configurations searched meet the goal, (N,)."""
    results: tuple[MethodResult, ...]

    def result(self, name: str) -> MethodResult:
        """Return the result of the method of this name."""
        return next(result for result in self.results if result.name == name)

    def median(self, name: str) -> Interval:
        """Return the median seconds to the goal."""
        return median_seconds(self.result(name).seconds)

    def quartiles(self, name: str) -> tuple[float, float]:
        """Return the lower and the upper quartile of the seconds to the goal."""
        seconds = self.result(name).seconds
        return _quantile(seconds, 0.25), _quantile(seconds, 0.75)

    def ratio(self, name: str, over: str) -> Interval:
        """Return the median seconds of one method over those of another; the bootstrap keeps seeds together.

        Not a number where neither reaches the goal in half of the seeds.
        """
        return ratio_of_medians(self.result(name).seconds, self.result(over).seconds)

    def run_ratio(self, name: str, over: str) -> Interval:
        """Return the median seconds of a single run of one method over those of another, wherever they end."""
        return ratio_of_medians(self.result(name).run_seconds, self.result(over).run_seconds)


def compare(landscape: Landscape, methods: Sequence[Method], conditions: Conditions) -> Comparison:
    """Return what every method does on the table, seed by seed on the same configurations in the same order.

    Every seed sets other configurations aside for the audit. The goal is relative to the best of those that are left.
    Raises: AuditError if fewer than five are left; LadderError if a method has too few for its ladder.
    """
    num_searched = landscape.num_configurations - conditions.audited
    if num_searched < FEWEST:
        raise AuditError(
            f"{landscape.num_configurations} configurations less {conditions.audited} for the audit leave {num_searched}, "
            f"but a comparison needs at least {FEWEST}: record more, or audit fewer."
        )
    full_seconds = RecordedTask(landscape=landscape).full_seconds
    budgets = [budget * full_seconds for budget in conditions.budgets]
    outcomes: list[list[_Outcome]] = [[] for _ in methods]
    num_good, audit_seconds = [], []
    for seed in range(conditions.num_seeds):
        audited, searched = _divide(landscape, conditions.audited, seed)
        goal = goal_of(searched, tolerance=conditions.tolerance, share=conditions.share)
        replayed = Replayed(
            task=RecordedTask(landscape=searched),
            audited=audited,
            seed=seed,
            workers=conditions.workers,
            patience=Patience(goal=goal, seconds=max(budgets, default=0.0)),
        )
        num_good.append(goal.met.sum())
        audit_seconds.append(0.0 if audited is None else _audit_seconds(audited))
        for method, found in zip(methods, outcomes, strict=True):
            found.append(_outcome(method.trace(replayed), goal, budgets))
    return Comparison(
        task=landscape.task,
        conditions=conditions,
        num_searched=num_searched,
        full_seconds=full_seconds,
        audit_seconds=np.array(audit_seconds),
        num_good=np.array(num_good, dtype=np.float64),
        results=tuple(_result(method.name, found) for method, found in zip(methods, outcomes, strict=True)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    seconds: float
    run_seconds: float
    run_regret: float
    run_success: bool
    regrets: tuple[float, ...]
    work: float


def _divide(landscape: Landscape, num_audited: int, seed: int) -> tuple[Landscape | None, Landscape]:
    order = np.random.default_rng(derive_seed(seed, "audited")).permutation(landscape.num_configurations)
    audited = landscape.of(np.sort(order[:num_audited])) if num_audited else None
    return audited, landscape.of(np.sort(order[num_audited:]))


def _audit_seconds(audited: Landscape) -> float:
    """Return what all cells cost: under the horizon "full" one training for each number of layers passes through all."""
    nested = audited.horizon == "full"
    return float((audited.seconds[:, :, -1] if nested else audited.seconds).sum())


def _outcome(trace: Trace, goal: Goal, budgets: Sequence[float]) -> _Outcome:
    def regret(answer: Step | None) -> float:
        return math.inf if answer is None else float(goal.qualities[answer.index]) - goal.best

    first_run = trace.run_ends[0]
    answer = trace.incumbent_at(first_run)
    return _Outcome(
        seconds=trace.time_to_goal(goal),
        run_seconds=first_run,
        run_regret=regret(answer),
        run_success=answer is not None and bool(goal.met[answer.index]),
        regrets=tuple(regret(trace.incumbent_at(budget)) for budget in budgets),
        work=trace.work,
    )


def _result(name: str, outcomes: Sequence[_Outcome]) -> MethodResult:
    return MethodResult(
        name=name,
        seconds=np.array([outcome.seconds for outcome in outcomes]),
        run_seconds=np.array([outcome.run_seconds for outcome in outcomes]),
        run_regrets=np.array([outcome.run_regret for outcome in outcomes]),
        run_successes=np.array([outcome.run_success for outcome in outcomes]),
        regrets=np.array([outcome.regrets for outcome in outcomes]),
        work=np.array([outcome.work for outcome in outcomes]),
    )


def _quantile(values: Array, level: float) -> float:
    # The element itself: interpolating between a number and infinity is neither.
    return float(np.sort(values)[max(0, math.ceil(level * len(values)) - 1)])


def _divided(above: float, below: float) -> float:
    if math.isinf(below):
        return math.nan if math.isinf(above) else 0.0
    return above / below


def median_seconds(seconds: Array) -> Interval:
    """Return the median over seeds of ``seconds`` (N,), which are infinite where a goal was never met."""
    return _bootstrapped(lambda chosen: _quantile(seconds[chosen], 0.5), len(seconds))


def ratio_of_medians(seconds: Array, over: Array) -> Interval:
    """Return the median of ``seconds`` (N,) over that of ``over`` (N,), seeds paired; NaN where both are infinite."""
    return _bootstrapped(
        lambda chosen: _divided(_quantile(seconds[chosen], 0.5), _quantile(over[chosen], 0.5)), len(seconds)
    )


def _bootstrapped(statistic: Callable[[np.ndarray], float], num_seeds: int) -> Interval:
    generator = np.random.default_rng(0)
    everyone = np.arange(num_seeds)
    resampled = np.array([statistic(generator.choice(everyone, num_seeds)) for _ in range(_RESAMPLES)])
    known = resampled[~np.isnan(resampled)]
    if not known.size:
        return Interval(value=math.nan, low=math.nan, high=math.nan)
    return Interval(value=statistic(everyone), low=_quantile(known, 0.025), high=_quantile(known, 0.975))
