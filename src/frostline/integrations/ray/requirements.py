"""What the rungs of a search need of a device, predicted before anything runs."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from frostline.costs.admission import is_small
from frostline.costs.capacity import Capacity
from frostline.errors import NotEnoughMemoryError, PredictionError
from frostline.run.execution.workload import TaskTraining
from frostline.sizes import format_size
from frostline.wording import counted

if TYPE_CHECKING:
    from frostline.protocols import Task
    from frostline.records import Job
    from frostline.run.execution.workload import Workload
    from frostline.search.interface import Rungs

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirements:
    """The bytes that a training of each number of layers needs, with the margin of ``Capacity``; 0 where it does not matter.

    It does not matter for a training of the user's own, a model that does not run on fake tensors, and one that is small
    beside every device.
    """

    ladder: Rungs
    name: str
    bytes_by_layers: Mapping[int, int] = field(default_factory=dict)
    capacity: Capacity | None = None

    @classmethod
    def of(cls, workload: Workload, *, smallest: int) -> Requirements:
        """Return those of a search on devices of which the smallest has so many bytes."""
        training = workload.training
        if not isinstance(training, TaskTraining):
            return cls(ladder=workload.ladder, name=training.name)
        return cls.of_task(training.task, workload.ladder, smallest=smallest)

    @classmethod
    def of_task(cls, task: Task, ladder: Rungs, *, smallest: int) -> Requirements:
        """Return those of a task's trainings on a ladder."""
        try:
            if is_small(task, smallest):
                return cls(ladder=ladder, name=task.name)
            # As on a GPU: whose memory it is, is not known here.
            capacity = Capacity(task, is_host=False)
            layers = sorted({rung.trainable_layers for rung in ladder.rungs})
            needed = {number: capacity.required(number) for number in layers}
        except PredictionError as error:
            logger.info("what trainings need is not known: %s", error)
            return cls(ladder=ladder, name=task.name)
        return cls(ladder=ladder, name=task.name, bytes_by_layers=needed, capacity=capacity)

    def bytes_of(self, job: Job) -> int:
        """Return what a job needs."""
        return self.of_layers(job.fidelity.trainable_layers)

    def of_layers(self, trainable_layers: int) -> int:
        """Return what a training of so many layers needs."""
        return self.bytes_by_layers.get(trainable_layers, 0)

    @property
    def of_rungs(self) -> list[int]:
        """What each rung needs, in the ladder's order."""
        return [self.of_layers(rung.trainable_layers) for rung in self.ladder.rungs]

    def layers_within(self, memory_bytes: int) -> int | None:
        """Return the most layers of any rung that a device of so many bytes trains; None if it trains none."""
        fitting = [
            rung.trainable_layers
            for rung in self.ladder.rungs
            if self.of_layers(rung.trainable_layers) <= memory_bytes
        ]
        return max(fitting, default=None)

    def population(self, job: Job, memory_bytes: int) -> int:
        """Return how many like ``job`` are trained together in so many bytes, at least 1."""
        if self.capacity is None:
            return _MANY
        return max(1, self.capacity.population(job.fidelity.trainable_layers, memory_bytes))

    def check(self, devices: Mapping[str, int]) -> None:
        """Check that each rung fits somewhere; ``devices`` are the bytes of the largest of each node, by the node's name.

        Raises: NotEnoughMemoryError, which names the first rung that fits nowhere.
        """
        for number, needed in enumerate(self.of_rungs):
            if needed > max(devices.values(), default=0) or not devices:
                raise NotEnoughMemoryError(self._refusal(number, devices))

    def _refusal(self, number: int, devices: Mapping[str, int]) -> str:
        rung = self.ladder.rungs[number]
        needed = format_size(self.of_layers(rung.trainable_layers))
        largest = max(devices, key=lambda name: devices[name], default=None)
        there = (
            "no node of the cluster has a core and so much memory beside a worker's own"
            if largest is None
            else f"the largest share of the cluster, on {largest}, has {format_size(devices[largest])}"
        )
        return (
            f"rung {number} of {self.name} ({counted(rung.trainable_layers, 'layer')}) needs {needed}, and {there}: add a "
            f"larger node, or give a ladder of fewer layers (frostline fit --cluster shows the plan)."
        )

    def refuse(self, job: Job, devices: Mapping[str, int]) -> NotEnoughMemoryError:
        """Return what to raise for a job that no device holds any more."""
        return NotEnoughMemoryError(self._refusal(job.rung, devices))


# More than any device trains together.
_MANY = 2**20
