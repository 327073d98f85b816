"""Measuring whether freezing is a valid fidelity for a task: every configuration at every cell of the grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from frostline.audit.landscape import Landscape, LayerCost
from frostline.audit.reuse import AuditedEvaluations
from frostline.audit.stored_landscape import (
    ALIGNED_NOTE,
    BASE_NOTE,
    COSTS_NOTE,
    read_landscape,
    repeat_study,
)
from frostline.costs.asked_batch import completed, first_batch
from frostline.costs.predicted.prediction import predict_step
from frostline.errors import AuditError, PredictionError, StudyError
from frostline.inputs.kinds import check_kind
from frostline.inputs.whole_numbers import MOST_CONFIGURATIONS, shown
from frostline.protocols import Task, metric_of
from frostline.records import Progress, Value
from frostline.run.execution.local import local_executor
from frostline.run.execution.options import TrainingOptions
from frostline.run.execution.workload import ExecutorFactory, check_factory, check_task
from frostline.run.loop import Observer
from frostline.run.plan import SearchPlan
from frostline.run.task_search import TaskSearch
from frostline.run.tuning import search_task
from frostline.run.view.search_view import observing
from frostline.search.algorithms.grid import Grid
from frostline.search.algorithms.halving import check_configurations
from frostline.search.algorithms.sweep import FullFidelity, Sweep
from frostline.search.interface import Search
from frostline.statistics.ranks import FEWEST
from frostline.store.backends.storage import DEFAULT_STORAGE, Storage, checked_place, opened
from frostline.store.begun import begun_statistics, terms_in
from frostline.store.reading import StoredStudy, check_study_name, read_study, write_note
from frostline.training.supervised.task_layers import layers_of

# Every training is validated at every budget; each seed trains the repeats in full.
_MOST_BUDGETS = 1000
_MOST_REPEAT_SEEDS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditPlan:
    """What an audit trains. Raises: AuditError if it could say nothing, or the grid is not one of this model and budget.

    ``layers`` are numbers of trained layers, rising to all of them; ``samples`` budgets, rising to the full one, of equal
    distance. Under the horizon "full" one training passes through all budgets, so that they cost nothing but their
    validations; under "rung" each is a training of its own. ``repeats`` of the configurations, spread evenly over the
    ranking, are trained in full again under ``repeat_seeds`` other seeds each: the noise that no fidelity can be below.
    """

    configurations: int
    layers: tuple[int, ...]
    samples: tuple[int, ...]
    horizon: str = "full"
    repeats: int = 8
    repeat_seeds: int = 1
    base: str | None = None
    """The audit whose configurations are trained again under an alignment."""

    @classmethod
    def of(
        cls,
        task: Task,
        *,
        configurations: int = 24,
        layers: Sequence[int] | None = None,
        budgets: int = 10,
        horizon: str = "full",
        repeats: int = 8,
        repeat_seeds: int = 1,
        base: str | None = None,
    ) -> AuditPlan:
        """Return the plan over ``layers``, all by default, and ``budgets`` equal shares of the task's samples."""
        num_layers = layers_of(task).num_layers
        rising = tuple(sorted({*(layers or range(1, num_layers + 1)), num_layers}))
        if rising[0] < 1 or rising[-1] > num_layers:
            raise AuditError(
                f"layers are {', '.join(map(str, rising))}, but {task.name} has {num_layers} layers: choose from 1 to that."
            )
        if not 1 <= budgets <= min(_MOST_BUDGETS, task.full_samples):
            raise AuditError(
                f"budgets is {shown(budgets)}, but must be at least 1, and at most {_MOST_BUDGETS} and the "
                f"{task.full_samples:,} {task.sample_unit} of a full training."
            )
        return cls(
            configurations=configurations,
            layers=rising,
            samples=tuple(task.full_samples * (index + 1) // budgets for index in range(budgets)),
            horizon=horizon,
            repeats=min(repeats, configurations),
            repeat_seeds=repeat_seeds,
            base=base,
        )

    def __post_init__(self) -> None:
        if self.configurations < FEWEST:
            raise AuditError(
                f"{self.configurations} configurations were asked for, but a rank correlation over fewer than {FEWEST} "
                f"says nothing: ask for {FEWEST} or more; 24 give an interval worth having."
            )
        check_configurations(self.configurations)
        if len(self.layers) * len(self.samples) == 1:
            raise AuditError(
                f"the only cell, all {self.layers[0]} layers on all {self.samples[0]:,} samples, is full training itself, "
                f"with which nothing is compared: ask for fewer layers too, or for more than 1 budget."
            )
        for name, most in (("repeats", MOST_CONFIGURATIONS), ("repeat_seeds", _MOST_REPEAT_SEEDS)):
            if not 0 <= getattr(self, name) <= most:
                raise AuditError(f"{name} is {shown(getattr(self, name))}, but must be in 0..{most}.")

    @property
    def grid(self) -> Grid:
        """The trainings of every configuration."""
        return Grid.product(self.layers, self.samples if self.horizon == "rung" else self.samples[-1:])

    @property
    def num_validations(self) -> int:
        """How often each training is validated."""
        return 1 if self.horizon == "rung" else len(self.samples)

    @property
    def num_repeated(self) -> int:
        """How many full trainings are repeats."""
        return self.repeats * self.repeat_seeds

    def trainings(self) -> int:
        """Return how many trainings the audit makes."""
        return self.configurations * len(self.grid.rungs) + self.num_repeated

    def one_by_one(self) -> float:
        """Return what its cells cost if each is trained by itself, in full trainings: n + 2z of 3n layer passes a sample."""
        num_layers, full = self.layers[-1], self.samples[-1]
        passes = sum(num_layers + 2 * z for z in self.layers) * sum(self.samples) * self.configurations
        return passes / (3 * num_layers * full) + self.num_repeated


def audit_task(
    task: Task,
    audit: AuditPlan,
    *,
    study: str,
    plan: SearchPlan = SearchPlan(),
    training: TaskSearch = TaskSearch(),
    storage: Path | str | Storage = DEFAULT_STORAGE,
    executor: ExecutorFactory = local_executor,
    observer: Observer | None = None,
) -> Landscape:
    """Train every configuration of ``audit`` at every cell, and some again under other seeds; return the landscape.

    It lies in the study ``study``, a sweep, and the repeats of other seeds in studies beside it; what is there is continued.
    How many configurations, how often trainings are validated and their horizon say ``audit``, whatever ``plan`` and
    ``training`` do. Under an alignment cells of few layers train other values than the configurations have; ``audit.base``
    then names the audit, in the same storage, that trained them as they are: its configurations are taken, and what the
    alignment does not change is not trained again, repeats neither. The rest is as in ``tune_task``, the view of an absent
    ``observer`` too.
    Raises: AuditError if the base is of another task, space, seed or setting.
    """
    check_task(task)
    check_factory(executor)
    check_kind(
        "audit",
        audit,
        AuditPlan,
        "a plan, such as frostline.AuditPlan(configurations=20, layers=..., samples=...)",
    )
    check_kind("plan", plan, SearchPlan, "a plan, such as frostline.SearchPlan(seed=1)")
    check_kind("training", training, TaskSearch, "a search of a task, such as frostline.TaskSearch(options=...)")
    check_study_name(study)
    storage = storage if isinstance(storage, Storage) else checked_place(storage)
    options = replace(training.options, horizon=audit.horizon, num_validations=audit.num_validations)
    with (
        opened(storage) as place,
        observing(
            observer,
            what=f"the audit {study}",
            storage=place.place,
            sample_unit=task.sample_unit,
            metric=metric_of(task),
            tells_best=False,
        ) as watching,
    ):
        if options.statistics is None:
            options = replace(options, statistics=begun_statistics(terms_in(place, audit.base or study)))
        training = replace(training, options=options)
        rooms = _Rooms(place, executor, watching)
        if audit.base is not None:
            base = _base(place, audit.base, task, options, plan.seed)
            training = replace(training, known=AuditedEvaluations(base.terms, base.history))
            configurations = [dict(configuration) for configuration in base.history.configurations]
            plan = replace(plan, initial=configurations[: audit.configurations])
            aligned = sorted({study, *base.lines(ALIGNED_NOTE)})
            write_note(place, audit.base, ALIGNED_NOTE, aligned)
        sweep = Sweep(ladder=audit.grid, configurations=audit.configurations)
        rooms.search(task, sweep, study=study, plan=plan, training=training)
        if audit.base is not None:
            write_note(place, study, BASE_NOTE, audit.base)
        costs = predicted_costs(task, audit.layers)
        write_note(place, study, COSTS_NOTE, {z: asdict(cost) for z, cost in costs.items()})
        if audit.base is None:
            _repeat(task, audit, rooms, study=study, plan=plan, training=training)
        return read_landscape(place, study)


@dataclass(frozen=True, slots=True)
class _Rooms:
    """Where the studies of an audit lie, and what evaluates and watches them."""

    storage: Storage
    executor: ExecutorFactory
    observer: Observer

    def search(self, task: Task, search: Search, *, study: str, plan: SearchPlan, training: TaskSearch) -> None:
        search_task(
            task,
            search,
            study=study,
            plan=plan,
            training=training,
            storage=self.storage,
            executor=self.executor,
            observer=self.observer,
        )


def _repeat(
    task: Task, audit: AuditPlan, rooms: _Rooms, *, study: str, plan: SearchPlan, training: TaskSearch
) -> None:
    """Train some of an audit's configurations in full again, under other seeds."""
    swept = read_landscape(rooms.storage, study)
    grid = Grid.product(audit.layers[-1:], audit.samples[-1:])
    # Its progress is told, its evaluations are not: they are of another grid.
    watched = replace(rooms, observer=_OnlyProgress(rooms.observer))
    for offset in range(1, audit.repeat_seeds + 1):
        name = repeat_study(study, offset)
        chosen = _chosen(swept, audit.repeats, before=_configurations_in(rooms.storage, name))
        if not chosen:
            return
        watched.search(
            task,
            FullFidelity(ladder=grid, configurations=len(chosen)),
            study=name,
            plan=SearchPlan(initial=chosen, seed=plan.seed + offset),
            training=TaskSearch(options=training.options, reference=training.reference),
        )


class _OnlyProgress(Observer):
    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def progressed(self, progress: Progress) -> None:
        """See ``Observer``."""
        self._observer.progressed(progress)


def _base(storage: Storage, base: str, task: Task, options: TrainingOptions, seed: int) -> StoredStudy:
    """Return the audit ``base``, if what it trained is what this one would train without its alignment."""
    try:
        study = read_study(storage, base)
    except StudyError as error:
        raise AuditError(
            f"there is no audit {base!r} whose configurations could be trained otherwise: make it first with "
            f"`frostline audit {task.name}`, or name another with --of. (Looked for it: {error})"
        ) from None
    terms = study.terms
    for what, theirs, mine in (
        ("task", terms.data, task.fingerprint),
        ("space", terms.space, task.space.fingerprint),
        ("seed", terms.seed, seed),
        ("settings", terms.training, options.terms()),
    ):
        if theirs != mine:
            raise AuditError(
                f"the audit {base!r} has another {what} than this one ({theirs} and {mine}): give the options that it was "
                f"made with."
            )
    return study


def predicted_costs(task: Task, layers: Sequence[int]) -> dict[int, LayerCost]:
    """Return the cost of training at each number of layers; nothing where it cannot be told without running."""
    try:
        configuration = completed(task, None, None)
        samples = task.num_samples(first_batch(task, configuration, None))
        steps = {z: predict_step(task, trainable_layers=z) for z in layers}
    except PredictionError:
        return {}
    return {
        z: LayerCost(flops_per_sample=step.flops / samples, peak_bytes=float(step.memory.peak))
        for z, step in steps.items()
    }


def _configurations_in(storage: Storage, study: str) -> list[dict[str, Value]]:
    try:
        history = read_study(storage, study).history
    except StudyError:
        return []
    return [dict(configuration.hyperparameters) for configuration in history.configurations]


def _chosen(
    landscape: Landscape, repeats: int, *, before: Sequence[Mapping[str, Value]]
) -> list[Mapping[str, Value]]:
    """Return the configurations to repeat: those that were before, then others spread evenly over the ranking."""
    ranking = np.argsort(landscape.full_losses, kind="stable")
    positions = np.linspace(0, len(ranking) - 1, min(repeats, len(ranking))).round().astype(int)
    spread = [*positions, *(position for position in range(len(ranking)) if position not in positions)]
    chosen = list(before)
    for position in spread:
        values = dict(landscape.configurations[ranking[position]].hyperparameters)
        if len(chosen) < repeats and values not in chosen:
            chosen.append(values)
    return chosen
