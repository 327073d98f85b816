"""The seams: what a task gives to training, what an executor gives to a search, what a search gives to the tuner."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from frostline.layers import LayerStack
    from frostline.records import Configuration, Direction, Evaluation, Fidelity, Job, Request, Value
    from frostline.search.history import History
    from frostline.search.space import SearchSpace

Batch = Any
"""Whatever a task's batches are: training only hands them back to the task and moves them between devices."""

Schedule = Callable[[float], float]
"""Maps the share of training that is done, in [0, 1), to the factor on the learning rate."""


class Task(Protocol):
    """A model, its data, its search space and its full budget: what is tuned.

    Nothing here may draw from a global random generator except ``build_model``, which is called with torch's generators
    seeded for the study's one initialisation; every configuration gets the same initial weights and the same data order.
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


class Rungs(Protocol):
    """The fidelities of a search, by number: a ``Ladder`` to climb, or a ``Grid`` to sweep. The last one is full."""

    @property
    def rungs(self) -> tuple[Fidelity, ...]:
        """The fidelities."""
        ...

    @property
    def num_layers(self) -> int:
        """The number of layers of the model."""
        ...

    @property
    def full_samples(self) -> int:
        """The full budget of one training, in samples."""
        ...

    def continues(self, rung: int) -> bool:
        """Return whether an evaluation at ``rung`` goes on with the training of the rung before."""
        ...


class Search(Protocol):
    """Decides what to evaluate next: a pure function of history, so that resuming is replaying.

    Knows no torch, disk or clock. Same history, same answer; it writes nothing.
    """

    @property
    def ladder(self) -> Rungs:
        """The rungs of the search."""
        ...

    @property
    def configurations(self) -> int:
        """The total number of configurations, over all runs of the study."""
        ...

    @property
    def fingerprint(self) -> str:
        """A string that changes when a study made with this search cannot be continued with another."""
        ...

    def evaluations_per_rung(self) -> tuple[int, ...]:
        """Return how many evaluations each rung will see if nothing fails."""
        ...

    def started_per_rung(self) -> tuple[int, ...]:
        """Return how many configurations begin their climb at each rung."""
        ...

    def next_requests(self, history: History, *, capacity: int) -> list[Request]:
        """Return up to ``capacity`` requests that are neither finished nor pending.

        New configurations are asked for by the next numbers in order. An empty list with nothing pending means that the
        search is over; an empty list with requests pending means: wait for one of them.
        """
        ...

    def eliminated(self, history: History) -> list[int]:
        """Return, rising, the configurations that have an evaluation below full fidelity and will get no further.

        Those that ``history.eliminate`` was told of are left out, so that this is cheap after every evaluation.
        """
        ...


class Executor(Protocol):
    """Runs jobs: the only place that knows devices."""

    @property
    def capacity(self) -> int:
        """How many jobs it takes at once."""
        ...

    def run(self, jobs: Sequence[Job]) -> Iterator[Evaluation]:
        """Yield one evaluation for every job, as they end. A job that raises is an evaluation that failed."""
        ...
