"""A task's loss and score functions: where their own tensors lie, and how a validation set's score is made of batches'."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol, runtime_checkable
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor  # there is no public name for it

from frostline.errors import TaskError
from frostline.layers.cutting.nesting import map_tensors, tensors
from frostline.training.losses.lazy_logits import is_transformed
from frostline.training.machine.devices import first_tensor

Criterion = Callable[[Any, Any], Any]
"""Takes (outputs, targets)."""


@runtime_checkable
class Metric(Protocol):
    """What gathers a score over batches, as those of torchmetrics and torcheval do."""

    def reset(self) -> Any:
        """Forget what was gathered."""
        ...

    def update(self, *arguments: Any) -> Any:
        """Take in a batch's outputs and targets."""
        ...

    def compute(self) -> Any:
        """Return the score of all that was taken in."""
        ...


# Of each function on each device but the CPU, so that no step waits for a copy.
_PLACED: WeakKeyDictionary[Any, dict[torch.device, Any]] = WeakKeyDictionary()


def placed(function: Any, outputs: Any, targets: Any) -> Any:
    """Return ``function`` with its own tensors, such as the weights of classes, where the outputs are.

    Those of a module, and those that a ``functools.partial`` is given; others are where the user has put them.
    """
    beside = next(iter(tensors((outputs, targets))), None)
    # Fake tensors take real ones for their like, and must not be kept for real ones.
    if (
        beside is None
        or beside.device.type == "cpu"
        or isinstance(beside, FakeTensor)
        or not _own_tensors(function)
    ):
        return function
    known = _PLACED.setdefault(function, {})
    if beside.device not in known:
        known[beside.device] = _moved(function, beside.device)
    return known[beside.device]


class MeanScore:
    """The mean of a function's scores of batches, weighted by their examples. ``task`` is what errors call it."""

    def __init__(self, function: Criterion, *, task: str) -> None:
        self._function = function
        self._task = task
        self._scores: list[Tensor] = []
        self._sizes: list[int] = []

    def update(self, outputs: Any, targets: Any, *, size: int) -> None:
        """Take in a batch of ``size`` examples. Raises: TaskError if its score is no number."""
        score = torch.as_tensor(placed(self._function, outputs, targets)(outputs, targets))
        if score.is_complex() or score.dtype == torch.bool:
            raise TaskError(
                f"the score of {self._task} is a tensor of {score.dtype}, which ranks nothing: return numbers."
            )
        self._scores.append(_one_number(score, f"the score of {self._task}"))
        self._sizes.append(size)

    def compute(self) -> float:
        """Return the mean of all that was taken in."""
        return _weighted_mean(self._scores, self._sizes)


class MetricScore:
    """What a metric, as those of torchmetrics and torcheval, gathers over batches."""

    def __init__(self, metric: Metric, *, task: str) -> None:
        # The user's own stays as it is: it may be that of several tasks, or of several configurations at once.
        self._metric: Any = copy.deepcopy(metric)
        self._metric.reset()
        self._task = task

    def update(self, outputs: Any, targets: Any, *, size: int) -> None:  # noqa: ARG002 (a metric counts for itself)
        """Take in a batch."""
        if hasattr(self._metric, "to"):
            self._metric.to(first_tensor((outputs, targets)).device)
        self._metric.update(outputs, targets)

    def compute(self) -> float:
        """Return the score of all that was taken in. Raises: TaskError if it is no number."""
        return float(_one_number(torch.as_tensor(self._metric.compute()), f"the score of {self._task}"))


def score_by(function: Criterion | Metric, *, task: str) -> MeanScore | MetricScore:
    """Return what makes a score of a validation set's batches."""
    return MetricScore(function, task=task) if isinstance(function, Metric) else MeanScore(function, task=task)


def loss_of(function: Criterion, outputs: Any, targets: Any, *, task: str) -> Tensor:
    """Return the loss of a batch. Raises: TaskError if it is no number, or leaves another function behind."""
    function = placed(function, outputs, targets)
    if not isinstance(function, nn.Module) or is_transformed():
        return _one_number(function(outputs, targets), f"the loss of {task}")
    buffers = {name: (buffer, buffer._version) for name, buffer in function.named_buffers()}
    loss = function(outputs, targets)
    for name, buffer in function.named_buffers():
        before, version = buffers.get(name, (None, 0))
        if buffer is not before or buffer._version != version:
            raise TaskError(
                f"the loss of {task} changes its buffer {name} as it runs, which all configurations have in common: each "
                f"would begin where another ended. Keep it in the model, whose state is each training's own."
            )
    return _one_number(loss, f"the loss of {task}")


def _one_number(value: Any, what: str) -> Tensor:
    if isinstance(value, Tensor) and value.numel() == 1:
        return value if value.dim() == 0 else value.reshape(())
    came = f"tensor of {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
    raise TaskError(f"{what} is a {came}, but must be a tensor of one number: take the mean.")


def _own_tensors(function: Any) -> list[Tensor]:
    if isinstance(function, nn.Module):
        return [*function.parameters(), *function.buffers()]
    if isinstance(function, partial):
        return tensors((function.args, function.keywords, _own_tensors(function.func)))
    return []


def _moved(function: Any, device: torch.device) -> Any:
    if isinstance(function, nn.Module):
        return copy.deepcopy(function).to(device, non_blocking=True)
    arguments, keywords = map_tensors(
        lambda tensor: tensor.to(device, non_blocking=True), (function.args, function.keywords)
    )
    inner = _moved(function.func, device) if isinstance(function.func, nn.Module) else function.func
    return partial(inner, *arguments, **keywords)


def _weighted_mean(scores: list[Tensor], sizes: Sequence[int]) -> float:
    """Return the mean of batches' scores, each weighted by its number of examples."""
    # Read at the end and at once: reading each would make the host wait for the device at every batch.
    total = torch.stack(scores).double() if scores[0].device.type != "mps" else torch.stack(scores).cpu().double()
    weights = torch.tensor(sizes, dtype=total.dtype, device=total.device)
    return float((total * weights).sum() / weights.sum())
