"""What a trained model costs whoever uses it: bytes, FLOPs or seconds, of the model that a configuration makes."""

from __future__ import annotations

import logging
import statistics
import time
from typing import TYPE_CHECKING

import torch

from frostline.costs.predicted.prediction import forward_flops
from frostline.errors import OptionError, PredictionError
from frostline.inputs.model_costs import BYTES, FLOPS, SECONDS
from frostline.layers.storages import model_bytes
from frostline.layers.weights.deferred import build_shapes, fill, move
from frostline.records import Configuration
from frostline.training.machine.devices import move_batch, synchronise
from frostline.training.machine.randomness import borrowed_generators, seed_generators

if TYPE_CHECKING:
    from frostline.protocols import Task
    from frostline.training.machine.devices import DevicePlan

logger = logging.getLogger(__name__)

_WARM_UP, _REPETITIONS = 3, 9


class ModelMeter:
    """Tells what the models of a task's configurations cost, each measured once.

    Bytes are those of parameters and buffers, FLOPs those of a forward pass for one example: both exact, and told without
    running the model. Seconds are the median of passes over a batch of the validation set, for one of its samples, on this
    machine. Weights' values change none of them, so that nothing has to be trained for it.
    Raises: OptionError if the model of the task's own configuration cannot be measured so.
    """

    def __init__(self, task: Task, against: str, *, device_plan: DevicePlan) -> None:
        self._task = task
        self._measure = {BYTES: self._bytes, FLOPS: self._flops, SECONDS: self._seconds}[against]
        self._device_plan = device_plan
        self._known: dict[int, float | None] = {}
        try:
            self._measured(Configuration(number=0, hyperparameters={}))
        except PredictionError as error:
            raise OptionError(
                f"against is {against!r}, but the model of {task.name} does not tell it without running: use {BYTES} or "
                f"{SECONDS}. ({error})"
            ) from error

    def __call__(self, configuration: Configuration) -> float | None:
        """Return what the model of a configuration costs; None if it cannot be built, of which its training will tell."""
        if configuration.number not in self._known:
            try:
                cost: float | None = self._measured(configuration)
            # A model may fail to be built in as many ways as there are models.
            except Exception as error:
                logger.debug("what configuration %d costs is not known: %s", configuration.number, error)
                cost = None
            self._known[configuration.number] = cost
        return self._known[configuration.number]

    def _measured(self, configuration: Configuration) -> float:
        values = {**self._task.defaults, **configuration.hyperparameters}
        device = self._device_plan.device
        with borrowed_generators(device):
            seed_generators(0, device)
            return self._measure(Configuration(number=configuration.number, hyperparameters=values))

    def _bytes(self, configuration: Configuration) -> float:
        model = build_shapes(lambda: self._task.build_model(configuration))
        return float(model_bytes(model))

    def _flops(self, configuration: Configuration) -> float:
        return forward_flops(self._task, configuration)

    def _seconds(self, configuration: Configuration) -> float:
        task, device = self._task, self._device_plan.device
        model = move(task.build_model(configuration), device)
        fill(model)
        model.eval()
        first = next(iter(task.validation_batches(configuration)))
        batch = move_batch(first, device)
        seconds = []
        with torch.no_grad(), self._device_plan.autocast():
            for _ in range(_WARM_UP + _REPETITIONS):
                synchronise(device)
                begin = time.perf_counter()
                task.score(model, [batch])
                synchronise(device)
                seconds.append(time.perf_counter() - begin)
        return statistics.median(seconds[_WARM_UP:]) / task.num_samples(first)
