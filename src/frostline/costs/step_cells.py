"""The costs of several steps: measured, or predicted as long as that is possible."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from frostline.costs.measurement import measure_steps
from frostline.costs.predicted.prediction import predict_step
from frostline.errors import PredictionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from frostline.costs.shown.cost_tables import CostRow
    from frostline.protocols import Task
    from frostline.records import Value
    from frostline.training.machine.devices import DevicePlan


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCells:
    """The steps whose costs are asked for; a batch size of None is the task's own.

    Predictions are for ``predicted_device``, measurements of what ``device_plan`` names.
    """

    task: Task
    layers: tuple[int, ...]
    batch_sizes: tuple[int, ...] | None
    configuration: Mapping[str, Value]
    device_plan: DevicePlan
    repetitions: int
    say: Callable[[str], None]
    predicted_device: str = "cpu"

    def measured(self) -> Iterator[CostRow]:
        """Yield the costs of real steps."""
        return measure_steps(
            self.task,
            layers=self.layers,
            batch_sizes=self.batch_sizes,
            configuration=self.configuration,
            device=self.device_plan.device,
            compute_dtype=self.device_plan.compute_dtype,
            repetitions=self.repetitions,
        )

    def predicted(self) -> Iterator[CostRow]:
        """Yield predictions; from the first step on that cannot be predicted, say so and measure the rest.

        Raises: PredictionError if they are for a device that is not the one to measure on.
        """
        cells = [(size, layers) for size in self.batch_sizes or (None,) for layers in self.layers]
        measuring = False
        for size, layers in cells:
            if not measuring:
                try:
                    row = predict_step(
                        self.task,
                        trainable_layers=layers,
                        batch_size=size,
                        configuration=self.configuration,
                        device=self.predicted_device,
                    )
                except PredictionError as error:
                    if self.predicted_device != self.device_plan.device.type:
                        raise
                    measuring = True
                    self.say(f"{error} Measuring.")
                else:
                    # Outside of what is caught: whoever takes no more may end it when Python ends, and names are gone.
                    yield row
                    continue
            yield from replace(self, layers=(layers,), batch_sizes=None if size is None else (size,)).measured()
