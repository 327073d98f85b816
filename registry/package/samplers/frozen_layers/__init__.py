"""Frozen layers as a fidelity for an Optuna study, in the form of OptunaHub's registry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optuna

from frostline import Trial, TuneResult, tune

__all__ = ["optimize"]


def optimize(
    study: optuna.Study, objective: Callable[[Trial], float], *, samples: int, **options: Any
) -> TuneResult:
    """Search for the best hyperparameters of ``objective`` in ``study``, and return what was found.

    ``samples`` is what a full training sees. ``options`` are those of ``frostline.tune``: ``budget`` (full trainings, or a
    time), ``initial``, ``unit``, ... The study must be empty, or one that was searched so before; its sampler draws.
    """
    return tune(objective, study=study, samples=samples, **options)
