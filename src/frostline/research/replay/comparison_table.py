"""A comparison as a table in plain text, and as a record for a file."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.research.replay.comparison import Comparison, Interval

_NEVER = "never"


def comparison_table(comparison: Comparison) -> str:
    """Return a line for every method; times are medians over seeds, in full trainings, the first method the yardstick."""
    full, reference = comparison.full_seconds, comparison.results[0].name
    budgets = [f"at {budget:g}" for budget in comparison.conditions.budgets]
    header = [
        "method", "to the goal", "95 %", "quartiles", f"/ {reference.split(',')[0]}", "missed",
        "one run", "ends well", "its regret", *budgets,
    ]  # fmt: skip
    lines = [header]
    for result in comparison.results:
        median, ratio = comparison.median(result.name), comparison.ratio(result.name, reference)
        lower, upper = comparison.quartiles(result.name)
        lines.append(
            [
                result.name,
                _number(median.value / full),
                f"{_number(median.low / full)} to {_number(median.high / full)}",
                f"{_number(lower / full)} to {_number(upper / full)}",
                _number(ratio.value),
                f"{result.num_censored} of {len(result.seconds)}",
                _number(float(np.median(result.run_seconds)) / full),
                f"{result.run_successes.mean():.0%}",
                _number(_middle(result.run_regrets)),
                *(_number(_middle(result.regrets[:, index])) for index in range(len(budgets))),
            ]
        )
    return "\n".join([*_heading(comparison), "", _aligned(lines)])


def comparison_record(comparison: Comparison) -> dict[str, Any]:
    """Return the comparison as JSON can hold it: times in seconds, what was never reached as None."""
    conditions = comparison.conditions
    reference = comparison.results[0].name
    return {
        "task": comparison.task,
        "conditions": asdict(conditions),
        "configurations_searched": comparison.num_searched,
        "full_training_seconds": comparison.full_seconds,
        "audit_seconds_mean": float(comparison.audit_seconds.mean()),
        "good_configurations_mean": float(comparison.num_good.mean()),
        "reference": reference,
        "methods": [
            {
                "name": result.name,
                "median_seconds": _interval(comparison.median(result.name)),
                "quartile_seconds": [_finite(value) for value in comparison.quartiles(result.name)],
                "ratio_to_reference": _interval(comparison.ratio(result.name, reference)),
                "never_reached": result.num_censored,
                "run_seconds_median": float(np.median(result.run_seconds)),
                "run_success_share": float(result.run_successes.mean()),
                "run_regret_median": _finite(_middle(result.run_regrets)),
                "regret_median_at_budgets": [_finite(_middle(column)) for column in result.regrets.T],
            }
            for result in comparison.results
        ],
    }


def _heading(comparison: Comparison) -> list[str]:
    conditions = comparison.conditions
    good = comparison.num_good
    near = f"within {conditions.tolerance:.4g} of the best" if conditions.tolerance > 0 else ""
    among = f"among the best {conditions.share:.0%}" if conditions.share > 0 else ""
    wanted = " or ".join(filter(None, [near, among])) or "the best"
    return [
        f"{comparison.task}: {comparison.num_searched} configurations searched, {conditions.audited} set aside for an "
        f"audit, {conditions.num_seeds} seeds, workers: {conditions.workers}.",
        f"Goal: {wanted}; {good.mean():.1f} configurations in the mean meet it. A full training takes "
        f"{comparison.full_seconds:.1f} s, an audit {comparison.audit_seconds.mean() / comparison.full_seconds:.3g} times "
        "as long. Times are medians in full trainings, regrets medians in loss.",
    ]


def _middle(values: np.ndarray) -> float:
    return float(np.sort(values)[(len(values) - 1) // 2])


def _number(value: float) -> str:
    if math.isnan(value):
        return "-"
    return _NEVER if math.isinf(value) else f"{value:.3g}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _interval(interval: Interval) -> dict[str, float | None]:
    return {name: _finite(value) for name, value in asdict(interval).items()}


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
