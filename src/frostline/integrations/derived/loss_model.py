"""A model of transformers that returns the loss alone, which it computes from the labels among its inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import Trainer

from frostline.errors import TaskError

Count = Callable[[Mapping[str, Any]], Tensor | None]
"""Returns by how many items a Trainer divides the sum of a batch's losses; None where it leaves the mean to the model."""

# Of the labels this value stands for none.
_IGNORED = -100


def let_return_loss(model: Any, count: Count) -> Any:
    """Return ``model``, which returns its loss from now on. Its class is a new one of the same name, as copies' are."""
    kind: Any = type(model)

    # Not a forward of the instance: that would hold the model that holds it.
    def forward(self: Any, **named: Any) -> Tensor:
        number = count(named)
        more = {} if number is None else {"num_items_in_batch": number}
        outputs = kind.forward(self, **named, **more)
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs[0]
        if not isinstance(loss, Tensor) or loss.dim() != 0:
            raise TaskError(
                f"{kind.__name__} returned no loss for {', '.join(named)}, but a task needs one number for every batch: "
                f"give the examples labels, or tune it as trials, with "
                f"frostline.integrations.transformers.tune_trainer."
            )
        return loss

    facts = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    model.__class__ = type(kind.__name__, (kind,), {**facts, "forward": forward})
    return model


def count_of(trainer: Trainer, batch: Mapping[str, Any]) -> Count:
    """Return how ``trainer`` counts the items of a batch, by what it says of this one.

    For some language models that is one more an example than there are predictions (5.23), and no mean.
    Raises: TaskError if it counts in no way that is known.
    """
    # There is no public name for it (5.23).
    counted: Any = trainer._get_num_items_in_batch([batch], torch.device("cpu"))
    for rule in (_leaves_it, _labels, _labels_behind_first):
        number = rule(batch) if counted is not None or rule is _leaves_it else None
        if (counted is None and number is None) or (number is not None and float(number) == float(counted)):
            return rule
    raise TaskError(
        f"the Trainer counts {float(counted):g} items in a batch, which are not its labels, but a task divides a loss by "
        f"their number: tune it as trials, with frostline.integrations.transformers.tune_trainer."
    )


def _leaves_it(_batch: Mapping[str, Any]) -> None:
    return None


def _labels(batch: Mapping[str, Any]) -> Tensor:
    labels: Tensor = batch.get("shift_labels", batch["labels"])
    return labels.ne(_IGNORED).sum() / 1


def _labels_behind_first(batch: Mapping[str, Any]) -> Tensor:
    labels: Tensor = batch["labels"]
    return labels[..., 1:].ne(_IGNORED).sum() / 1
