"""The frozen dataclasses that travel between deciding what to evaluate and evaluating it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from frostline.errors import FidelityError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Value = bool | int | float | str | None
"""A hyperparameter's value: what Optuna can store."""

HEAD = "head."
"""Before the name of a hyperparameter: that of the last layer alone."""

Direction = Literal["minimize", "maximize"]


def loss_sign(direction: Direction) -> int:
    """Return 1 where lower scores are better, else -1: a score times it is a loss, of which less is better."""
    return 1 if direction == "minimize" else -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Fidelity:
    """How much of the full training an evaluation gets.

    Units: ``samples`` counts tokens for a language model and examples otherwise (``Task.sample_unit``).
    """

    trainable_layers: int
    samples: int

    def __post_init__(self) -> None:
        if self.trainable_layers < 1 or self.samples < 1:
            raise FidelityError(
                f"a fidelity of {self.trainable_layers} trainable layers and {self.samples} samples trains nothing: "
                f"both must be at least 1."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration(Mapping[str, Value]):
    """One assignment of hyperparameters, read like a dictionary; in storage, the Optuna trial of the same number."""

    number: int
    hyperparameters: Mapping[str, Value]
    sampler_state: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """What Optuna's sampler wrote beside the trial (CMA-ES, grid, QMC) and needs to go on drawing."""
    head: Mapping[str, Value] = field(default_factory=dict)
    """Hyperparameters of the optimizer that the model's last layer is trained with instead. Tasks need not know of them: see
    ``frostline.search.alignment``."""

    @property
    def trained_values(self) -> dict[str, Value]:
        """All that a training goes by: the hyperparameters, and those of the head by names such as "head.learning_rate"."""
        return {**self.hyperparameters, **{f"{HEAD}{name}": value for name, value in self.head.items()}}

    def __getitem__(self, name: str) -> Value:
        return self.hyperparameters[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.hyperparameters)

    def __len__(self) -> int:
        return len(self.hyperparameters)


@dataclass(frozen=True, slots=True, order=True)
class Request:
    """What a search asks for next: configuration ``number`` at ``rung``, counted from 0, of its ladder.

    A number that the history does not hold yet asks for a new configuration.
    """

    number: int
    rung: int
    values: Mapping[str, Value] | None = field(default=None, compare=False, repr=False)
    """The hyperparameters of a new configuration, where the search chooses them itself; None: they are drawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A request made concrete: what an executor is handed."""

    configuration: Configuration
    rung: int
    fidelity: Fidelity
    continued_from: tuple[Fidelity, ...] = ()
    """The rungs right below with as many trainable layers, lowest first, that this training continues.

    What a job yields is by definition the continuation of these: a checkpoint that is lost is made again, so that a
    search that was killed gives the numbers of an undisturbed one.
    """
    may_continue: bool = True
    """Whether the next rung has as many trainable layers: only then is a checkpoint of use."""

    @property
    def request(self) -> Request:
        """The request that this job answers."""
        return Request(self.configuration.number, self.rung)


class Status(StrEnum):
    """How an evaluation ended."""

    FINISHED = "finished"
    DIVERGED = "diverged"
    """The loss or the score was not finite: ranked last, never promoted."""
    FAILED = "failed"
    """The training function raised, or memory ran out: ``Evaluation.reason`` says why."""


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """The validation score after ``samples`` training samples."""

    samples: int
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What an evaluation took on the machine that ran it.

    Units: ``seconds`` of wall-clock for training and validation; ``samples`` trained by this evaluation itself, without
    those it resumed from; ``peak_bytes`` of device memory, None where the device has no counter. Where several
    configurations were trained together, ``seconds`` is its share, ``peak_bytes`` that of all.
    """

    seconds: float
    samples: int
    peak_bytes: int | None = None
    population: int = 1
    """How many configurations were trained together, itself included."""
    fixed_seconds: float = 0.0
    """Those of the ``seconds`` that more samples would not have added to, as far as they are known: what goes before the
    first step and comes after the last one, such as loading and the validation at the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What a training raised, where that can be mended: memory that ran out is none, nor is a process that died."""

    error: str
    """The name of the exception's class."""
    place: str
    """The last line of the user's code on the way there, such as "train.py:12"; of any code where there was none."""
    traceback: str
    """The lines of the user's code, as Python prints them."""
    exception: BaseException | None = field(default=None, compare=False, repr=False)
    """The exception itself, in the process that it was raised in: it is not kept with a study."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions of many classes cannot be made again from a pickle.
        return partial(Failure, error=self.error, place=self.place, traceback=self.traceback), ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """One configuration trained and validated at one fidelity. ``score`` is None unless it finished."""

    number: int
    rung: int
    fidelity: Fidelity
    status: Status
    score: float | None
    cost: Cost
    curve: tuple[CurvePoint, ...] = field(default=())
    reason: str | None = None
    trained_with: Mapping[str, Value] = field(default_factory=dict)
    """The hyperparameters that were trained at other values than the configuration's, with these values: see
    ``frostline.search.alignment``."""
    suggested: Mapping[str, Value] = field(default_factory=dict)
    """What an objective asked for, if that is anything else than the configuration: hyperparameters that it asks for under a
    condition, or did not ask for."""
    ranges: Mapping[str, BaseDistribution] = field(default_factory=dict)
    """Where the values lie that it asked for and that the configuration has not: of each hyperparameter the range."""
    failure: Failure | None = None
    """What was raised, if it failed by that."""
    model_cost: float | None = None
    """What the configuration's model costs whoever uses it, less being better; None where the score alone counts."""

    def __post_init__(self) -> None:
        finite = self.score is not None and math.isfinite(self.score)
        assert finite == (self.status is Status.FINISHED), f"{self.status} with score {self.score}"

    @property
    def request(self) -> Request:
        """The request that this evaluation answers."""
        return Request(self.number, self.rung)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a population is: at ``samples``, between where it ``started`` and the ``budget`` of its longest training."""

    rung: int
    members: int
    engine: str | None
    """How they are trained: see ``populations.engines``. None: by code of the user's own."""
    started: int
    samples: int
    budget: int
    scores: Mapping[int, float] = field(default_factory=dict)
    """The latest validation score of each member that has one, by its configuration's number."""
    worker: int = 0
    """Which of the processes that train side by side it is in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Station:
    """A process that trains, and what it trains now."""

    host: str
    pid: int | None
    """None where nobody tells."""
    device: str
    """Such as "cpu"; "" where nobody tells."""
    requests: tuple[Request, ...]
    since: float | None
    """When it began with them, in seconds since 1970 by its host's clock; None while it trains nothing."""
    promised_bytes: int | None = None
    """What its trainings may take; None where nobody says."""
    used_bytes: int | None = None
    """What the process has in memory, on an accelerator what it holds there; None where that is not known."""
