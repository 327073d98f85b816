"""What fits into devices: by prediction, or from the first step on that cannot be predicted by measurement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from frostline.costs.capacity import Capacity, Fit
from frostline.costs.measurement import FailedStep, measure_steps
from frostline.errors import PredictionError, TaskError
from frostline.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from frostline.costs.step_cost import StepCost
    from frostline.protocols import Task
    from frostline.records import Value


@dataclass(kw_only=True)
class KnownFits:
    """What is known of a task's needs: predicted, or from the first step on that cannot be predicted, measured."""

    task: Task
    configuration: Mapping[str, Value]
    capacity: Capacity
    say: Callable[[str], None]
    is_measured: bool = False
    has_one_size: bool | None = None
    """Whether no other batch size than the task's own is to be tried; None as long as nobody has asked."""

    def fits(self, trainable_layers: int, memories: Sequence[int]) -> list[Fit]:
        """Return what fits into each memory; say what is not known, and why, as soon as it shows."""
        try:
            return self._fits(trainable_layers, memories)
        except PredictionError as error:
            if self.capacity.device != "cpu":
                raise  # what is measured here is the CPU's
            self.say(f"{error} Measuring, at the task's own batch size alone: the largest batch is not known.")
        self.is_measured = self.has_one_size = True
        self.capacity = Capacity(self.task, margin=self.capacity.margin, predict=self._measured)
        return self._fits(trainable_layers, memories)

    def _fits(self, trainable_layers: int, memories: Sequence[int]) -> list[Fit]:
        if self.has_one_size is None:
            reason = self.capacity.fixed_batch(trainable_layers)
            self.has_one_size = reason is not None
            if reason is not None:
                self.say(f"the largest batch is not known: {reason}")
        return [self.capacity.fit(trainable_layers, memory, is_own_batch=self.has_one_size) for memory in memories]

    def _measured(self, trainable_layers: int, _batch_size: int | None) -> StepCost:
        (row,) = measure_steps(
            self.task,
            layers=(trainable_layers,),
            configuration=self.configuration,
            device=torch.device("cpu"),
            warm_up=0,
            repetitions=1,
        )
        if isinstance(row, FailedStep):
            raise TaskError(
                f"the step of {self.task.name} with {counted(trainable_layers, 'layer')} trained can neither be "
                f"predicted nor measured here: {row.reason}."
            )
        return row
