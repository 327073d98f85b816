"""The model of the best evaluation of a ``Trainer`` that loads it at the end: what ``load_best_model_at_end`` asks for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from frostline.errors import ObjectiveError

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
        self._value: float = kept["value"] if kept else math.nan
        self._state: dict[str, Tensor] = dict(kept["state"]) if kept else {}
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
        is_better = value > self._value if self._greater_is_better else value < self._value
        if is_better or (math.isnan(self._value) and not math.isnan(value)):
            self._value, self.score = value, score
            self._state = {name: tensor.detach().to("cpu", copy=True) for name, tensor in _trained(model)}

    def load(self, model: nn.Module) -> None:
        """Put the weights into ``model``, unless there are none."""
        with torch.no_grad():
            for name, tensor in _trained(model) if self._state else ():
                tensor.copy_(self._state[name])

    def contents(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of it."""
        return {"value": self._value, "score": self.score, "state": self._state}


def _trained(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield what a training changes: the parameters that are trained, and the buffers."""
    yield from ((name, value) for name, value in model.named_parameters() if value.requires_grad)
    yield from model.named_buffers()
