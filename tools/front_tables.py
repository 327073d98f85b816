"""The table of searches against what models cost: made from a file of benchmarks/results."""

from __future__ import annotations

from collections.abc import Callable

from tools.result_tables import interval, markdown, results_of

WAYS = {"score": "the score alone", "bytes": "both"}


def model_costs() -> str:
    """Return what the fronts of searches by the score alone and against bytes come to, and their best scores."""
    found = results_of("model_costs.json")
    return markdown(
        ["promoted by", "area of the front", "its members", "best loss"],
        (
            [
                WAYS[row["promoted_by"]],
                interval(row["area"]),
                interval(row["members"], digits=".2g"),
                interval(row["best"]),
            ]
            for row in found["ways"]
        ),
    )


FRONT_TABLES: dict[str, Callable[[], str]] = {"model-costs": model_costs}
