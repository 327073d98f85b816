"""What fits into a device's memory at each fidelity: the largest batch, the largest population, the rungs it can serve."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from frostline.errors import HyperparameterError, OptionError, PredictionError
from frostline.protocols import keeps_best

if TYPE_CHECKING:
    from frostline.costs.step_cost import Memory, StepCost
    from frostline.protocols import Task
    from frostline.records import Fidelity, Value

MARGIN = 0.15
"""The share of what is predicted that is kept free besides: libraries' own memory, fragments between tensors.

Models were trained within address spaces as large as the memory that they were predicted to fit
(``tests/costs/test_fits_really.py``; x86 CPU, one thread, torch 2.13). Beyond the prediction a GPT took 1 MiB, a ViT 2, an
MLP 15 at any batch size, and a ResNet, for which oneDNN keeps what it makes for every shape of convolution, 17 to 38: more
than a tenth of up to 400 MiB. The larger the device, the less of the margin is needed; below 300 MiB it may be too little.
"""

LARGEST_MARGIN = 1.0
"""No prediction is off by more than it says."""

MOST = 2**20 - 1
"""No larger batch and no larger population is looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """What fits into ``device_memory`` bytes with ``trainable_layers`` of ``num_layers`` trained.

    ``required`` are the bytes, with the margin, that one configuration needs with batches of the task's own
    ``batch_size``, in examples. ``largest_batch`` is that for one configuration, None if another size than the task's is not
    known; ``population`` is the most configurations that are trained together behind shared frozen layers with batches of
    the task's size. Both are 0 where not even one fits, and ``MOST`` where so many fit or more. ``origin`` is "predicted"
    or "measured".
    """

    trainable_layers: int
    num_layers: int
    batch_size: int
    device_memory: int
    required: int
    largest_batch: int | None
    population: int
    origin: str


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
    it is predicted (``predict_step``) for ``device``, "cpu" or "cuda", so that the model need not fit here. The copy of the
    best weights that a task keeps lies in host memory: it is needed too where ``is_host`` says that this is meant, by
    default for "cpu".
    Raises: PredictionError if the model does not run on fake tensors.
    """

    def __init__(
        self,
        task: Task,
        *,
        margin: float = MARGIN,
        configuration: Mapping[str, Value] | None = None,
        predict: Callable[[int, int | None], StepCost] | None = None,
        device: str = "cpu",
        is_host: bool | None = None,
    ) -> None:
        if not 0 <= margin <= LARGEST_MARGIN:
            raise OptionError(
                f"margin is {margin!r}, but must be in 0..{LARGEST_MARGIN:g}: a share of what is predicted."
            )
        self.margin = margin
        self.device = device
        self._holds_best = keeps_best(task) and (device == "cpu" if is_host is None else is_host)
        if predict is None:
            from frostline.costs.predicted.prediction import StepPredictor

            predict = StepPredictor(task, configuration=configuration, device=device).cost
        self._predict = predict
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
        memory = self.cost(trainable_layers, batch_size).memory
        return self._with_margin(memory.needed + self._best(memory))

    def fit(self, trainable_layers: int, device_memory: int, *, is_own_batch: bool = False) -> Fit:
        """Return what fits into ``device_memory`` bytes; no other batch size is tried if ``is_own_batch``."""
        # First of all at the task's own batch size, which is then known to the others.
        cost = self.cost(trainable_layers)
        return Fit(
            trainable_layers=trainable_layers,
            num_layers=cost.num_layers,
            batch_size=cost.batch_size,
            device_memory=device_memory,
            required=self.required(trainable_layers),
            largest_batch=None if is_own_batch else self.largest_batch(trainable_layers, device_memory),
            population=self.population(trainable_layers, device_memory),
            origin="predicted" if cost.seconds is None else "measured",
        )

    def fixed_batch(self, trainable_layers: int) -> str | None:
        """Return why the task's batches have one size only, or None if another can be set."""
        own = self.cost(trainable_layers).batch_size
        with suppress(PredictionError):
            try:
                self.cost(trainable_layers, 1 if own > 1 else 2)
            except (OptionError, HyperparameterError) as error:
                return f"{error}"
        return None

    def largest_batch(self, trainable_layers: int, device_memory: int) -> int:
        """Return the largest number of examples in a batch that fits; 0 if one does not (arXiv 2504.10735, figure 6a)."""
        known = {
            size: self.required(layers, size)
            for layers, size in self._known
            if layers == trainable_layers and size is not None
        }

        def required(batch_size: int) -> int:
            try:
                return self.required(trainable_layers, batch_size)
            except PredictionError:
                if batch_size > 1:
                    raise
                # Batch normalisation refuses to be trained on one example alone.
                return self.required(trainable_layers, 2)

        return largest_fitting(required, device_memory, known=known)

    def together(self, trainable_layers: int, members: int) -> int:
        """Return the bytes, without the margin, of configurations that train in turn behind one prefix.

        What is frozen is there once, and a step's memory once; the rest for each of the ``members``.
        """
        memory = self.cost(trainable_layers).memory
        # Trained weights are as many bytes as their gradients.
        member = 2 * memory.gradients + memory.optimizer_state
        return memory.needed + (members - 1) * member + members * self._best(memory)

    def population(self, trainable_layers: int, device_memory: int) -> int:
        """Return how many configurations fit together.

        With every layer trained there is nothing to share, and they are trained one by one: 1 if it fits.
        """
        cost = self.cost(trainable_layers)
        if cost.trainable_layers == cost.num_layers:
            return int(self.required(trainable_layers) <= device_memory)

        def required(members: int) -> int:
            return self._with_margin(self.together(trainable_layers, members))

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

    def _best(self, memory: Memory) -> int:
        """The bytes of the best weights so far, as many as trained weights' gradients, where a training holds them."""
        return memory.gradients if self._holds_best else 0

    def _with_margin(self, num_bytes: int) -> int:
        return int(num_bytes * (1 + self.margin))


def largest_fitting(required: Callable[[int], int], memory: int, *, known: Mapping[int, int] | None = None) -> int:
    """Return the largest n of at least 1, or 0, for which ``required(n)``, which rises, is at most ``memory``.

    A step's peak is the highest of several moments' sums, each along a line of the batch: it bends upwards alone. So the
    line through two sizes that fit says where to look. Where an allocator hands memory out in blocks it rises in stairs:
    when a look by lines has not halved what is left, the next one does. ``known`` are values that ``required`` has returned
    already.
    """
    points = dict(known or {})

    def fits(n: int) -> bool:
        if n not in points:
            points[n] = required(n)
        return points[n] <= memory

    if not fits(1):
        return 0
    if not fits(2):
        return 1
    left, stride = 2 * MOST, 1
    while True:
        largest = max(n for n, needed in points.items() if needed <= memory)
        too_large = min((n for n, needed in points.items() if needed > memory), default=MOST + 1)
        before, left = left, too_large - largest
        if left <= 1:
            return largest
        if 2 * left <= before:
            fits(_by_lines(points, largest, too_large, memory))
        elif too_large in points:
            fits(largest + left // 2)
        else:
            fits(min(largest + stride, MOST))
            stride *= 2


def _by_lines(points: Mapping[int, int], largest: int, too_large: int, memory: int) -> int:
    """Return where to look between what fits and what does not, if what is needed bends upwards alone."""
    beyond = _first_beyond(points, largest, memory)
    if beyond > too_large and too_large in points:
        # A line from what fits to what does not runs above the curve: where it meets the memory, it fits.
        slope = -(-(points[too_large] - points[largest]) // (too_large - largest))
        beyond = largest + (memory - points[largest]) // slope + 1
    return min(max(beyond - 1, largest + 1), too_large - 1)


def _first_beyond(points: Mapping[int, int], largest: int, memory: int) -> int:
    """Return the first n that does not fit if the curve goes on as steeply as it came to ``largest``, or MOST + 1."""
    before = max(n for n in points if n < largest)
    rise, run = points[largest] - points[before], largest - before
    if rise <= 0:
        return MOST + 1
    return min(MOST + 1, largest + (memory - points[largest]) * run // rise + 1)
