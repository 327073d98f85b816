"""What fits into a device's memory at each fidelity: the largest batch, the largest population, the rungs it can serve."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from frostline.costs.prediction import predict_step
from frostline.errors import OptionError

if TYPE_CHECKING:
    from frostline.costs.step_cost import StepCost
    from frostline.protocols import Task
    from frostline.records import Fidelity

MARGIN = 0.1
"""The share of what is predicted that is kept free besides: kernels' own memory, fragments between tensors."""

_MOST_BATCH = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """What fits into ``device_memory`` bytes with ``trainable_layers`` trained.

    ``largest_batch`` in examples, for one configuration; ``population`` is the most configurations that are trained together
    behind shared frozen layers with batches of the task's size. Both are 0 where not even one fits.
    """

    trainable_layers: int
    device_memory: int
    largest_batch: int
    population: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RungFit:
    """Which of several devices can serve a rung: for each, in their order, how many configurations together."""

    fidelity: Fidelity
    required: int
    """Bytes that one configuration needs, with the margin."""
    populations: tuple[int, ...]


class Capacity:
    """Predicts what a task needs at each fidelity, once for each number of layers and batch size.

    ``predict`` returns what a step costs at a number of trained layers and a batch size, None for the task's own; by default
    it is predicted (``predict_step``), so that the model need not fit here.
    Raises: PredictionError if the model does not run on fake tensors.
    """

    def __init__(
        self, task: Task, *, margin: float = MARGIN, predict: Callable[[int, int | None], StepCost] | None = None
    ) -> None:
        if not margin >= 0:
            raise OptionError(f"margin is {margin!r}, but must be at least 0: a share of what is predicted.")
        self.margin = margin
        self._predict = predict or (
            lambda layers, batch_size: predict_step(task, trainable_layers=layers, batch_size=batch_size)
        )
        self._known: dict[tuple[int, int | None], StepCost] = {}

    def cost(self, trainable_layers: int, batch_size: int | None = None) -> StepCost:
        """Return the predicted cost of a step; without ``batch_size`` at the task's own."""
        key = trainable_layers, batch_size
        if key not in self._known:
            cost = self._predict(trainable_layers, batch_size)
            self._known[key] = self._known[trainable_layers, cost.batch_size] = cost
        return self._known[key]

    def required(self, trainable_layers: int, batch_size: int | None = None) -> int:
        """Return the bytes that a device needs for a training, with the margin."""
        return self._with_margin(self.cost(trainable_layers, batch_size).memory.peak)

    def fit(self, trainable_layers: int, device_memory: int) -> Fit:
        """Return what fits into ``device_memory`` bytes."""
        return Fit(
            trainable_layers=trainable_layers,
            device_memory=device_memory,
            largest_batch=self.largest_batch(trainable_layers, device_memory),
            population=self.population(trainable_layers, device_memory),
        )

    def largest_batch(self, trainable_layers: int, device_memory: int) -> int:
        """Return the largest number of examples in a batch that fits; 0 if one does not (arXiv 2504.10735, figure 6a)."""

        def required(batch_size: int) -> int:
            return self.required(trainable_layers, batch_size)

        return largest_fitting(required, device_memory)

    def population(self, trainable_layers: int, device_memory: int) -> int:
        """Return how many configurations fit together: frozen weights once, a step's memory once, the rest for each."""
        memory = self.cost(trainable_layers).memory
        # Trained weights are as many bytes as their gradients.
        member = 2 * memory.gradients + memory.optimizer_state
        once = memory.peak - member

        def required(members: int) -> int:
            return self._with_margin(once + members * member)

        return largest_fitting(required, device_memory)

    def rungs(self, fidelities: Sequence[Fidelity], device_memories: Sequence[int]) -> list[RungFit]:
        """Return for every rung of a ladder which devices can serve it."""
        return [
            RungFit(
                fidelity=fidelity,
                required=self.required(fidelity.trainable_layers),
                populations=tuple(
                    self.population(fidelity.trainable_layers, memory) for memory in device_memories
                ),
            )
            for fidelity in fidelities
        ]

    def _with_margin(self, num_bytes: int) -> int:
        return int(num_bytes * (1 + self.margin))


def largest_fitting(required: Callable[[int], int], memory: int) -> int:
    """Return the largest n of at least 1, or 0, for which ``required(n)``, which rises, is at most ``memory``.

    Memory grows with the batch almost along a line: the line through what is known says where to look next.
    """
    if required(1) > memory:
        return 0
    fits, too_large = 1, _MOST_BATCH
    if required(2) > memory:
        return 1
    fits, at_fit, slope = 2, required(2), required(2) - required(1)
    while too_large - fits > 1:
        guess = fits + (memory - at_fit) // slope if slope > 0 else too_large - 1
        guess = min(max(guess, fits + 1), too_large - 1)
        needed = required(guess)
        if needed <= memory:
            slope = (needed - at_fit) // (guess - fits)
            fits, at_fit = guess, needed
        else:
            slope = -(-(needed - at_fit) // (guess - fits))
            too_large = guess
    return fits
