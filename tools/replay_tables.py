"""The measured tables of searches on the ladder of an audit, and of alignment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tools.result_tables import interval, markdown, results_of

TASKS = ("python-source-gpt", "digits-resnet", "digits-mlp")
RIVALS = {
    "random search, full trainings": "random search, full trainings",
    "halving, samples only from 1/9": "successive halving, samples only, from 1/9",
    "Hyperband, samples only from 1/9": "Hyperband, samples only, from 1/9",
    "Optuna's Hyperband pruner with TPE": "Optuna's Hyperband pruner with TPE",
}
# Each with the kind of its table: as it is, or with the rungs of few layers trained at other rates.
RECOMMENDED = {
    "recommended by an audit of 24": ("", "recommended by an audit"),
    "the same, aligned": ("-aligned", "recommended by an audit"),
    "recommended by an audit of all": ("", "recommended by the whole table"),
    "the same, aligned, of all": ("-aligned", "recommended by the whole table"),
}


def replayed(task: str, kind: str, method: str) -> tuple[dict[str, Any], float]:
    """Return what a replay says of a method, and the seconds of a full training there."""
    record = results_of(f"replay-{task}{kind}-27.json")
    return next(row for row in record["methods"] if row["name"] == method), record["full_training_seconds"]


def rows_of_replays() -> dict[str, tuple[str, str]]:
    """Return the methods of the tables: each name with its kind of table and its name there."""
    diagonal = {"successive halving, diagonal": ("", "halving, diagonal")}
    return {name: ("", method) for method, name in RIVALS.items()} | diagonal | RECOMMENDED


def replay_runs() -> str:
    """Return what a run of each method takes, how often it ends well, and how long it is to the goal."""

    def cells(task: str, kind: str, method: str) -> list[str]:
        row, full = replayed(task, kind, method)
        return [
            f"{row['run_seconds_median'] / full:.3g}",
            f"{row['run_success_share'] * 100:.0f} %",
            f"{row['median_seconds']['value'] / full:.3g}",
        ]

    head = [part for task in TASKS for part in (f"`{task}`: one run", "ends well", "to the goal")]
    lines = [
        [name, *(cell for task in TASKS for cell in cells(task, kind, method))]
        for name, (kind, method) in rows_of_replays().items()
    ]
    return markdown(["", *head], lines)


def replay_medians() -> str:
    """Return the median full trainings to the goal, with intervals."""

    def cell(task: str, kind: str, method: str) -> str:
        row, full = replayed(task, kind, method)
        return interval(row["median_seconds"], unit=full)

    return markdown(
        ["method", *(f"`{task}`" for task in TASKS)],
        (
            [name, *(cell(task, kind, method) for task in TASKS)]
            for name, (kind, method) in rows_of_replays().items()
        ),
    )


def real_searches() -> str:
    """Return the seconds to the goal of searches that trained for real."""
    names = RIVALS | {
        "halving, diagonal": "successive halving, diagonal",
        "halving, diagonal, --align auto": "the same, `--align auto`",
    }
    return markdown(
        ["method", "median seconds (95 %)", "random search takes so many times as long (95 %)"],
        (
            [
                names.get(row["method"], row["method"]),
                interval(row["median_seconds"], digits=".1f"),
                interval(row["times_faster_than_random"], digits=".2f"),
            ]
            for row in results_of("searches-digits-mlp-27.json")["methods"]
        ),
    )


def simulated_alignment() -> str:
    """Return the regret of halving without and with reading through a surrogate; a star marks a sure difference."""
    rows = results_of("alignment-synthetic.json")
    cells = {(row["family"], row["configurations"], row["hyperparameters"]): row for row in rows}
    sizes = [(27, 3), (81, 3), (27, 8), (81, 8)]

    def pair(row: dict[str, Any]) -> list[str]:
        _, low, high = row["saved"]
        star = "*" if low > 0 or high < 0 else ""
        return [f"{row['regret']:.3f}", f"{row['regret_realigned']:.3f}{star}"]

    return markdown(
        [
            "where the lowest rungs' best learning rate lies",
            *(part for number, dimensions in sizes for part in (f"{number} of {dimensions}", "realigned")),
        ],
        (
            [family, *(cell for size in sizes for cell in pair(cells[family, *size]))]
            for family in dict.fromkeys(row["family"] for row in rows)
        ),
    )


REPLAY_TABLES: dict[str, Callable[[], str]] = {
    "replay-runs": replay_runs,
    "replay-medians": replay_medians,
    "real-searches": real_searches,
    "simulated-alignment": simulated_alignment,
}
