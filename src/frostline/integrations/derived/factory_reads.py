"""Which hyperparameters the function reads that makes a module or a trainer: its optimizer's are the task's to give."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from optuna.distributions import BaseDistribution, CategoricalDistribution

from frostline.errors import TaskError
from frostline.integrations.derived.optimizer_settings import OptimizerSettings
from frostline.records import Configuration, Value
from frostline.search.spaces.space import SearchSpace
from frostline.training.steps.optimizers import hyperparameters_of
from frostline.training.supervised.blueprint import ALWAYS_READ
from frostline.training.supervised.hyperparameter_reads import Reads, WatchedHyperparameters

Made = TypeVar("Made")

_OF_SCHEDULES = frozenset({"warmup_fraction", "cooldown_fraction"})


def watched(make: Callable[[Configuration], Made], values: Mapping[str, Value]) -> tuple[Made, Reads]:
    """Return what ``make`` makes of ``values``, and which of them it read."""
    reads = Reads()
    hyperparameters = WatchedHyperparameters(values, reads=reads)
    return make(Configuration(number=0, hyperparameters=hyperparameters)), reads


def refuse_reads_of_optimizer(reads: Reads, settings: OptimizerSettings, *, function: str) -> None:
    """Raise TaskError if what makes a model reads what the optimizer is given: a population would fall apart."""
    given = hyperparameters_of(settings.kind) | ALWAYS_READ | _OF_SCHEDULES
    taken = sorted(reads.names & given)
    if taken:
        raise TaskError(
            f"{function} reads {', '.join(taken)}, but that is for the task to give, to the optimizer and the batches: "
            f"write the value that you use today there, and leave the name in the space."
        )


def refuse_other_optimizers(
    observe: Callable[[Mapping[str, Value]], object],
    usual: object,
    values: Mapping[str, Value],
    *,
    space: SearchSpace,
    reads: Reads,
    function: str,
) -> None:
    """Raise TaskError if another value of what makes a model also makes another optimizer, which the task would not see.

    ``observe`` returns what is known of optimizer and schedule with other values, ``usual`` is that with ``values``.
    """
    for name in sorted(reads.names & space.distributions.keys()):
        for value in _corners(space.distributions[name]):
            if value != values[name] and observe({**values, name: value}) != usual:
                raise TaskError(
                    f"{name}, which {function} reads, changes the optimizer or its schedule, but these are for the task to "
                    f"change: search learning_rate, weight_decay, ... by their full names, and do not read them there."
                )


def _corners(distribution: BaseDistribution) -> Iterator[Value]:
    if isinstance(distribution, CategoricalDistribution):
        yield from distribution.choices
    else:
        yield from (getattr(distribution, name) for name in ("low", "high"))
