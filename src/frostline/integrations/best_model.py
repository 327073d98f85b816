"""The model of the best evaluation of a framework's trainer that keeps it: what its user asked it for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from frostline.training.files.best_weights import BestWeights

if TYPE_CHECKING:
    from torch import nn

    from frostline.objectives.trial import Trial


class BestModel:
    """Remembers the evaluation that was best so far by a metric: its score, and the weights that it was of."""

    def __init__(self, metric: str, *, greater_is_better: bool, kept: Mapping[str, Any] | None = None) -> None:
        """``kept`` is what ``contents`` of the same training was."""
        self.metric = metric
        self._greater_is_better = greater_is_better
        self._weights = BestWeights(**kept["weights"]) if kept else None
        self.score: float | None = kept["score"] if kept else None
        """That of the evaluation, by the metric that the search goes by; None as long as there is none."""

    def note(self, value: float, *, score: float, model: nn.Module) -> None:
        """Take note of an evaluation of ``model`` as it stands, at which the metric has ``value``."""
        if not math.isnan(value) and (self._weights is None or self._is_better(value, self._weights.score)):
            self._weights, self.score = BestWeights.of(model, score=value), score

    def load(self, model: nn.Module) -> None:
        """Put the weights into ``model``, unless there are none."""
        if self._weights is not None:
            self._weights.load(model)

    def contents(self) -> dict[str, Any] | None:
        """Return what a checkpoint keeps of it."""
        return None if self._weights is None else {"score": self.score, "weights": self._weights.contents()}

    def _is_better(self, value: float, other: float) -> bool:
        return value > other if self._greater_is_better else value < other


def final_score(trial: Trial, best: BestModel | None) -> float:
    """Return the last score that ``trial`` was told, or that of a ``best`` model, which is put into the trial's then."""
    if best is None or best.score is None:
        return trial.curve[-1].score
    assert trial.model is not None
    best.load(trial.model)
    return best.score
