"""The door to a training outside a search: of one configuration of a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from frostline.costs.admission import require_memory
from frostline.records import Configuration, Fidelity
from frostline.run.execution.options import TrainingOptions, memory_of
from frostline.training.course import TrainingSettings
from frostline.training.machine.threads import Threads
from frostline.training.serial import train_model
from frostline.training.supervised.task_layers import layers_of

if TYPE_CHECKING:
    from torch import nn

    from frostline.protocols import Task
    from frostline.records import Evaluation, Progress, Value


def train_task(
    task: Task,
    hyperparameters: Mapping[str, Value],
    *,
    fidelity: Fidelity | None = None,
    seed: int = 0,
    options: TrainingOptions = TrainingOptions(),
    observe: Callable[[Progress], None] = lambda _: None,
) -> tuple[Evaluation, nn.Module]:
    """Train one configuration outside a search, in full unless a ``fidelity`` is given; return its evaluation and model.

    Of the ``options`` device, precision, memory and threads count; nothing is kept. ``observe`` is told after every step how
    far it is.
    Raises: NotEnoughMemoryError if it is predicted to need more than that memory.
    """
    configuration = Configuration(number=0, hyperparameters=dict(hyperparameters))
    settings = TrainingSettings(device_plan=options.device_plan, root_seed=seed)
    if fidelity is None:
        fidelity = Fidelity(trainable_layers=layers_of(task).num_layers, samples=task.full_samples)
    available = memory_of(options, settings)
    is_host = settings.device_plan.device.type == "cpu"
    require_memory(task, trainable_layers=fidelity.trainable_layers, available=available, is_host=is_host)
    threads = Threads.of(options.threads, settings.device_plan.device)
    return train_model(task, configuration, fidelity, settings, threads=threads, observe=observe)
