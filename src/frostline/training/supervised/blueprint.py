"""What a task's model is made of, and which hyperparameters anybody reads: found by building it once."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from optuna.distributions import CategoricalDistribution
from torch import nn

from frostline.errors import HyperparameterError
from frostline.layers.storages import places_of
from frostline.layers.weights.deferred import build_shapes
from frostline.records import Configuration, Value
from frostline.training.machine.randomness import borrowed_generators, seed_generators
from frostline.training.steps.optimizers import hyperparameters_of, optimizer_class, suggested_name
from frostline.training.supervised.hyperparameter_reads import Reads, WatchedHyperparameters

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from frostline.protocols import Schedule
    from frostline.search.spaces.space import SearchSpace


ALWAYS_READ = frozenset({"optimizer", "batch_size", "gradient_clip_norm", "layer_decay"})
"""The hyperparameters that a supervised task reads whatever its model, schedule and optimizer are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blueprint:
    """A model's structure as a hash over its modules and its parameters' shapes, and which names are read."""

    structure: str
    has_ties: bool
    """Whether the model has one weight under several names, or several in the same memory."""
    read_names: frozenset[str]

    def refuse_unread(self, names: Iterable[str], *, task: str, also_read: tuple[str, ...]) -> None:
        """Check that somebody reads every one of ``names``.

        Raises: HyperparameterError otherwise: a search over a name without effect wastes its evaluations.
        """
        unread = [name for name in dict.fromkeys(names) if name not in self.read_names and name not in also_read]
        if not unread:
            return
        suggestions = [f"{name} is called {full} here" for name in unread if (full := suggested_name(name))]
        advice = (
            "; ".join(suggestions)
            or f"remove it, or name it in also_read; known: {', '.join(sorted(self.read_names))}"
        )
        raise HyperparameterError(
            f"{', '.join(unread)}: neither the model, the schedule nor the optimizer of {task} reads it: {advice}."
        )


def draw_blueprint(
    configuration: Configuration,
    *,
    model: Callable[[Configuration], nn.Module],
    schedule: Callable[[Configuration], Schedule],
    space: SearchSpace,
    optimizer: type[Optimizer],
) -> Blueprint:
    """Return the blueprint of a task, by building its model and schedule once and watching what they read.

    All optimizers that the space may choose count. Torch's generators are left as they were.
    Raises: HyperparameterError if the space names an optimizer that torch.optim does not have.
    """
    names = ALWAYS_READ
    chosen = _choices(space, "optimizer") or (configuration.get("optimizer"),)
    for name in chosen:
        names |= hyperparameters_of(optimizer if name is None else optimizer_class(name))
    reads = Reads()
    watched = WatchedHyperparameters(configuration.hyperparameters, reads=reads)
    cpu = torch.device("cpu")
    with borrowed_generators(cpu):
        seed_generators(0, cpu)
        # Its structure is all that counts: the model may be larger than memory.
        built = build_shapes(lambda: model(Configuration(number=configuration.number, hyperparameters=watched)))
        schedule(Configuration(number=configuration.number, hyperparameters=watched))
    places = places_of(parameter for _, parameter in built.named_parameters(remove_duplicate=False))
    return Blueprint(
        structure=structure_of(built),
        has_ties=len({*places}) < len(places),
        read_names=names | frozenset(reads.names),
    )


def largest_value(space: SearchSpace, name: str, otherwise: Value) -> int:
    """Return the largest number that ``space`` allows for ``name``, or ``otherwise`` where it has no such name."""
    distribution = space.distributions.get(name)
    if distribution is None:
        candidates: tuple[Value, ...] = (otherwise,)
    else:
        candidates = _choices(space, name) or (getattr(distribution, "high", otherwise),)
    return max((int(value) for value in candidates if isinstance(value, int | float)), default=0)


def _choices(space: SearchSpace, name: str) -> tuple[Value, ...]:
    distribution = space.distributions.get(name)
    return distribution.choices if isinstance(distribution, CategoricalDistribution) else ()


def structure_of(model: nn.Module) -> str:
    """Return a hash over a model's modules, as they describe themselves, and its parameters' names, shapes and types."""
    lines = [f"{name} {type(module).__qualname__} {module.extra_repr()}" for name, module in model.named_modules()]
    lines += [
        f"{name} {tuple(parameter.shape)} {parameter.dtype}"
        for name, parameter in model.named_parameters(remove_duplicate=False)
    ]
    # A module's text may show where in memory an activation function lies.
    return hashlib.sha256(re.sub(r" at 0x\w+", "", "\n".join(lines)).encode()).hexdigest()
