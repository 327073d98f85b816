"""Which hyperparameters change what a training runs and on what data: found by building it, not declared."""

from __future__ import annotations

import gc
import logging
import weakref
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

import torch

from frostline.errors import FrostlineError
from frostline.records import Configuration
from frostline.seeding import derive_seed
from frostline.training.machine.randomness import borrowed_generators, seed_generators
from frostline.training.supervised.hyperparameter_reads import Reads, WatchedHyperparameters

if TYPE_CHECKING:
    from frostline.protocols import Task
    from frostline.records import Value

logger = logging.getLogger(__name__)


class Absent(Enum):
    """In the place of a value: the name was asked for, and the configuration does not have it."""

    ABSENT = "absent"


ABSENT = Absent.ABSENT


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Program:
    """What configurations have in common that build one model, one initialisation, and learn from the same batches.

    Values are the same if they are of one type and look the same: 1, 1.0 and True are three, and NaN is one.
    """

    hyperparameters: tuple[tuple[str, Value | Absent], ...]
    """Those that were read and their values, sorted by name."""
    names: tuple[str, ...] | None = None
    """All names of the configuration, sorted, if somebody went through them."""
    validated: Program | None = None
    """What it has in common with those that build the same model and are validated on the same batches, whatever they
    learn from, such as batches of another size; None: with its own kind alone."""
    _identity: tuple[object, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        read = tuple((name, type(value), repr(value)) for name, value in self.hyperparameters)
        object.__setattr__(self, "_identity", (read, self.names))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Program) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pattern:
    """The names that configurations of a program read, sorted, and whether somebody went through all of them."""

    names: tuple[str, ...]
    all_names: bool
    validated: _Pattern | None = None
    """The same of the model and the validation batches alone."""

    def of(self, configuration: Configuration) -> Program:
        """Return the program of ``configuration``, if these are the names that it reads."""
        values = configuration.hyperparameters
        return Program(
            hyperparameters=tuple((name, values.get(name, ABSENT)) for name in self.names),
            names=tuple(sorted(values)) if self.all_names else None,
            validated=None if self.validated is None else self.validated.of(configuration),
        )


class Programs:
    """The different programs that a task's configurations train.

    A program is found by building the model and fetching the first batches, while watching what they read. By
    determinism a configuration that agrees with it on all that was read would read the same, so a model is built once
    for every program, and not for every configuration. A model that keeps the configuration may read any of it later:
    it counts as reading everything.

    What batches after the first read is not seen.
    """

    def __init__(self, task: Task, *, root_seed: int) -> None:
        self._task = task
        self._root_seed = root_seed
        self._known: dict[Program, Program] = {}
        self._raising: dict[int, Program] = {}
        self._patterns: dict[_Pattern, None] = {}

    def of(self, configuration: Configuration) -> Program:
        """Return the program of ``configuration``; equal programs may be trained in one population.

        Torch's generators are left as they were. One that the task's own code raises for has a program of its own: it is
        trained alone, and fails alone.
        Raises: FrostlineError if the task refuses it.
        """
        if configuration.number in self._raising:
            return self._raising[configuration.number]
        for pattern in self._patterns:
            candidate = pattern.of(configuration)
            if candidate in self._known:
                return self._known[candidate]
        try:
            pattern = self._watch(configuration)
        except FrostlineError:
            raise
        except Exception:
            logger.debug("the program of configuration %d is not known", configuration.number, exc_info=True)
            alone = Program(hyperparameters=(("number", configuration.number),), names=())
            return self._raising.setdefault(configuration.number, alone)
        self._patterns[pattern] = None
        program = pattern.of(configuration)
        return self._known.setdefault(program, program)

    def _watch(self, configuration: Configuration) -> _Pattern:
        """Return what the model and the first batches of ``configuration`` read."""
        cpu = torch.device("cpu")
        reads = Reads()
        with borrowed_generators(cpu):
            seed_generators(derive_seed(self._root_seed, "initialisation"), cpu)
            self._build(configuration, reads)
            watched = _watched(configuration, reads)
            next(iter(self._task.validation_batches(watched)), None)
            validated = _Pattern(names=tuple(sorted(reads.names)), all_names=reads.all_names)
            next(iter(self._task.training_batches(watched, seed=self._root_seed, skip_samples=0)), None)
        return _Pattern(names=tuple(sorted(reads.names)), all_names=reads.all_names, validated=validated)

    def _build(self, configuration: Configuration, reads: Reads) -> None:
        """Build the model and drop it."""
        watched = _watched(configuration, reads)
        kept = weakref.ref(watched.hyperparameters)
        model = self._task.build_model(watched)
        del watched
        if kept() is not None:
            # Whatever only lies about in a cycle would make the answer depend on when the collector comes.
            gc.collect()
        if kept() is not None:
            reads.all_names = True
            reads.names.update(configuration)
        del model


def _watched(configuration: Configuration, reads: Reads) -> Configuration:
    hyperparameters = WatchedHyperparameters(configuration.hyperparameters, reads=reads)
    return Configuration(number=configuration.number, hyperparameters=hyperparameters)
