"""The seams: what a task gives to training, and an executor to the loop. A search's is ``search.interface``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from frostline.layers import LayerStack
    from frostline.records import Configuration, Direction, Evaluation, Job, Value
    from frostline.search.spaces.space import SearchSpace

Batch = Any
"""Whatever a task's batches are: training only hands them back to the task and moves them between devices."""

Schedule = Callable[[float], float]
"""Maps the share of training that is done, in [0, 1), to the factor on the learning rate."""


class Task(Protocol):
    """A model, its data, its search space and its full budget: what is tuned.

    ``build_model``, ``loss`` and ``score`` may draw from the global generators of torch, NumPy and Python, which are seeded
    for the study's one initialisation, each step and each validation batch; nothing else here may. Every configuration gets
    the same initial weights and the same data order.
    """

    @property
    def name(self) -> str:
        """What the task is called."""
        ...

    @property
    def space(self) -> SearchSpace:
        """The search space."""
        ...

    @property
    def direction(self) -> Direction:
        """Whether the score is to fall or to rise."""
        ...

    @property
    def sample_unit(self) -> str:
        """What ``samples`` counts, in the plural: "tokens", "images"."""
        ...

    @property
    def full_samples(self) -> int:
        """The full budget of one training, in samples."""
        ...

    @property
    def defaults(self) -> Mapping[str, Value]:
        """The configuration one would train without a search: what the best one is compared with."""
        ...

    @property
    def fingerprint(self) -> str:
        """A string that changes when the data, the model or the budget do: two studies that differ never mix."""
        ...

    def build_model(self, configuration: Configuration) -> nn.Module:
        """Return a freshly initialised model on the CPU, or one from ``frostline.layers.build_deferred``."""
        ...

    def split(self, model: nn.Module) -> LayerStack:
        """Return the layers of ``model`` in the order of execution."""
        ...

    def freeze(self, model: nn.Module, *, trainable_layers: int) -> None:
        """Freeze ``model`` in place, on the device it is on, and calibrate frozen statistics where it has any."""
        ...

    def build_optimizer(self, parameters: Sequence[nn.Parameter], configuration: Configuration) -> Optimizer:
        """Return the optimizer of the trained parameters."""
        ...

    def build_schedule(self, configuration: Configuration) -> Schedule:
        """Return the learning-rate schedule."""
        ...

    def max_gradient_norm(self, configuration: Configuration) -> float | None:
        """Return the largest allowed L2 norm of the gradient, or None for no clipping."""
        ...

    def training_batches(self, configuration: Configuration, *, seed: int, skip_samples: int) -> Iterator[Batch]:
        """Yield CPU batches without end, in an order that depends on ``seed`` alone, from after ``skip_samples``."""
        ...

    def num_samples(self, batch: Batch) -> int:
        """Return how many samples a batch holds."""
        ...

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean training loss of a batch, a scalar tensor with gradient."""
        ...

    def validation_batches(self, configuration: Configuration) -> Iterable[Batch]:
        """Return the CPU batches of the validation set, always the same."""
        ...

    def score(self, model: nn.Module, batches: Iterable[Batch]) -> float:
        """Return the score over validation batches that are on the model's device; called in evaluation mode."""
        ...


class RunningScore(Protocol):
    """The score of a model that is run on validation batches one after the other."""

    def update(self, batch: Batch) -> None:
        """Run the model on a batch on its device, and take in what it gives; called in evaluation mode."""
        ...

    def compute(self) -> float:
        """Return the score over all batches that were taken in."""
        ...


class ScoresByBatch(Protocol):
    """A task that can also make its score batch by batch: then many models are scored on each batch as it is fetched."""

    def running_score(self, model: nn.Module) -> RunningScore | None:
        """Return the beginning of a score that comes to what ``score`` returns; None if there is no such thing."""
        ...


def running_score_of(task: Task, model: nn.Module) -> RunningScore | None:
    """Return the score of ``model`` before the first batch; None if the task knows it only of whole validation sets."""
    # What a class hands on to another task (``__getattr__``) is that task's: this one may have a ``score`` of its own.
    begin = getattr(type(task), "running_score", None)
    return None if begin is None else begin(task, model)


def is_task(candidate: Any) -> bool:
    """Return whether something has all that a task has."""
    needed = {name for name in vars(Task) if not name.startswith("_")} | set(Task.__annotations__)
    try:
        # Listed names are not looked up: a fingerprint is a property for which the model would be built.
        listed = set(dir(candidate))
        return not isinstance(candidate, type) and all(
            name in listed or hasattr(candidate, name) for name in needed
        )
    except Exception:  # what is no task may do anything when it is looked at
        return False


def metric_of(task: Task) -> str | None:
    """Return what the score of a task is called, if it says so: a task of one's own need not."""
    metric = getattr(task, "metric", None)
    return metric if isinstance(metric, str) else None


def keeps_best(task: Task) -> bool:
    """Return whether a task's trainings are judged by the best of their validations, not by the last: if it says so."""
    return getattr(task, "keep_best", False) is True


class Executor(Protocol):
    """Has jobs evaluated: the only place that knows devices, memory, checkpoints and other machines.

    Used by one thread. A job that raises is an evaluation that failed; what an executor itself raises ends the search,
    which can be continued.
    """

    def room(self) -> int:
        """Return how many more jobs it would take on now; at least 1 when none is under way."""
        ...

    def submit(self, jobs: Sequence[Job]) -> None:
        """Take on ``jobs``, at most ``room()`` of them; they may be evaluated together and end in any order."""
        ...

    def next_ended(self) -> Evaluation:
        """Wait until one of the jobs under way has ended, and return its evaluation; called only if there is one."""
        ...

    def forget(self, number: int) -> None:
        """Let go of whatever is kept to continue configuration ``number``: it is never evaluated again."""
        ...

    def close(self) -> None:
        """Let go of everything; jobs under way are given up."""
        ...
