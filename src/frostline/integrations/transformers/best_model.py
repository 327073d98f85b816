"""The model of the best evaluation of a ``Trainer`` that loads it at the end: what ``load_best_model_at_end`` asks for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from frostline.errors import ObjectiveError
from frostline.training.files.best_weights import BestWeights

if TYPE_CHECKING:
    from torch import nn
    from transformers import TrainingArguments


class BestModel:
    """Remembers the evaluation that was best so far by the Trainer's own metric: its score, and the weights it was of."""

    def __init__(self, args: TrainingArguments, kept: Mapping[str, Any] | None) -> None:
        """``args`` load the best model at the end; ``kept`` is what ``contents`` of the same training was."""
        metric = args.metric_for_best_model or "loss"
        self._metric = metric if metric.startswith("eval_") else f"eval_{metric}"
        self._greater_is_better = bool(args.greater_is_better)
        self._weights = BestWeights(**kept["weights"]) if kept else None
        self.score: float | None = kept["score"] if kept else None
        """That of the evaluation, by the metric that the search goes by; None as long as there is none."""

    def note(self, metrics: Mapping[str, float], *, score: float, model: nn.Module) -> None:
        """Take note of an evaluation of ``model`` as it stands. Raises: ObjectiveError if it does not give the metric."""
        if self._metric not in metrics:
            raise ObjectiveError(
                f"metric_for_best_model is {self._metric!r}, but Trainer.evaluate gives {', '.join(sorted(metrics))}: "
                f"compute it in compute_metrics, or name one of these."
            )
        value = metrics[self._metric]
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
