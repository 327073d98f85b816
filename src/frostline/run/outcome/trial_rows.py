"""A search's configurations as rows of a table: what was tried, how far it came and what it took."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from frostline.search.history import History


def trial_rows(history: History) -> list[Mapping[str, Any]]:
    """Return a row for each configuration: its number, its hyperparameters, and its evaluation at the highest rung.

    That is ``rung``, ``layers``, ``samples``, ``state`` and ``score``, None where it failed or diverged; ``seconds`` are
    those of all its evaluations. Of one that has not ended anywhere these are None, and its state is "running".
    """
    rows: list[Mapping[str, Any]] = []
    for configuration in history.configurations:
        last = history.last_evaluation(configuration.number)
        seconds = [each.cost.seconds for each in history.evaluations_of(configuration.number)]
        rows.append(
            {
                "number": configuration.number,
                **(configuration if last is None else history.configuration_of(last)).hyperparameters,
                "rung": None if last is None else last.rung,
                "layers": None if last is None else last.fidelity.trainable_layers,
                "samples": None if last is None else last.fidelity.samples,
                "state": "running" if last is None else f"{last.status}",
                "score": None if last is None else last.score,
                "seconds": sum(seconds) if seconds else None,
            }
        )
    return rows
