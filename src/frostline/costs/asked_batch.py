"""The batch that a step is made on: of the task's own size, or of the one asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.errors import OptionError, TaskError
from frostline.inputs.whole_numbers import check_whole
from frostline.records import Configuration
from frostline.training.supervised.data import LARGEST_BATCH, examples_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from frostline.protocols import Batch, Task
    from frostline.records import Value

_SEED = 0


def completed(task: Task, configuration: Mapping[str, Value] | None, batch_size: int | None) -> Configuration:
    """Return the task's own configuration with what ``configuration`` overrides, and ``batch_size`` as a hyperparameter.

    Raises: OptionError if ``batch_size`` is no whole number from 1 to ``LARGEST_BATCH``.
    """
    values = {**task.defaults, **(configuration or {})}
    if batch_size is not None:
        check_whole("batch_size", batch_size, most=LARGEST_BATCH)
        values["batch_size"] = batch_size
    return Configuration(number=0, hyperparameters=values)


def first_batch(task: Task, configuration: Configuration, batch_size: int | None) -> Batch:
    """Return the first training batch, of ``batch_size`` examples if that was asked for.

    Raises: TaskError if it holds no tensor to tell their number by; OptionError if it holds another number.
    """
    batch = next(iter(task.training_batches(configuration, seed=_SEED, skip_samples=0)))
    try:
        length = examples_of(batch)
    except (TypeError, ValueError):
        raise TaskError(
            f"a batch of {task.name} holds no tensor that tells its number of examples: put one first that has it as "
            f"its first dimension."
        ) from None
    if batch_size is not None and length != batch_size:
        raise OptionError(
            f"batch_size is {batch_size}, but the batches of {task.name} have {length} examples: it does not read the "
            f"hyperparameter 'batch_size', so leave it out."
        )
    return batch
