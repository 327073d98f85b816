"""The table of workers that share a study: made from a file of benchmarks/results."""

from __future__ import annotations

from collections.abc import Callable

from tools.result_tables import markdown, results_of


def joined_workers() -> str:
    """Return what several `frostline worker` on one PostgreSQL took, and whether anything was done twice or lost."""
    rows = results_of("joined_workers.json")
    alone = rows[0]["seconds"]
    return markdown(
        [
            "workers", "evaluations", "made twice", "lost", "scores as with one", "seconds", "times as fast",
            "seconds of a core, each", "waited for locks, all together", "most waiting at once", "deadlocks",
        ],
        (
            [
                f"{row['workers']}", f"{row['evaluations']}", f"{row['twice']}", f"{row['lost']}",
                "yes" if row["is_same"] else "no", f"{row['seconds']:.0f}", f"{alone / row['seconds']:.1f}",
                f"{row['cpu_seconds'] / row['workers']:.1f}", f"{row['lock_seconds']:.2f} s", f"{row['most_waiting']}",
                f"{row['deadlocks']}",
            ]
            for row in rows
        ),
    )  # fmt: skip


WORKER_TABLES: dict[str, Callable[[], str]] = {"joined-workers": joined_workers}
