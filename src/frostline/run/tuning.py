"""The one loop: history -> next jobs -> evaluations -> history. And the two doors to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, get_args

import torch
from torch import nn

from frostline.costs.admission import require_memory
from frostline.errors import LadderError, ModelError, OptionError, SearchFailedError
from frostline.layers import LayerStack, build_deferred
from frostline.layers.weights.deferred import build_shapes
from frostline.protocols import Executor, Task
from frostline.records import Configuration, Direction, Evaluation, Fidelity, Job, Progress, Status, Value
from frostline.run.executors import AligningExecutor, LocalExecutor, RememberingExecutor
from frostline.run.options import TrainingOptions, executor_of
from frostline.run.summary import Summary, best_evaluation, summarise
from frostline.search.alignment import IDENTITY, Alignment
from frostline.search.halving import CONFIGURATIONS, SuccessiveHalving
from frostline.search.history import History
from frostline.search.interface import Search
from frostline.search.ladder import Ladder
from frostline.search.sampling import RANDOM, Draws, Sampling
from frostline.search.space import SearchSpace
from frostline.sizes import parse_size
from frostline.store.storage import DEFAULT_STORAGE
from frostline.store.study import SearchStudy, Terms
from frostline.training.black_box import BlackBox, TrainFunction
from frostline.training.course import TrainingSettings, checkpoints_of
from frostline.training.devices import device_plan_of
from frostline.training.memory import available_bytes
from frostline.training.serial import train_model

# How long a worker that has nothing to do waits before it looks whether another one has finished.
_WAIT_SECONDS = 0.5

Observer = Callable[[Evaluation, History], None]
"""Called after every evaluation, with everything known by then."""


class SearchFactory(Protocol):
    """Makes a search for a ladder: a class of ``frostline.search``, or a partial of one."""

    def __call__(self, *, ladder: Ladder, configurations: int) -> Search:
        """Return the search."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneResult:
    """What a search found, and what it cost."""

    study: str
    storage: str
    terms: Terms
    summary: Summary
    history: History
    best: Evaluation
    """The best evaluation at full fidelity."""

    @property
    def configuration(self) -> Configuration:
        """The best configuration."""
        return self.history.configurations[self.best.number]

    @property
    def score(self) -> float:
        """The best configuration's score, trained in full."""
        assert self.best.score is not None
        return self.best.score


def tune(
    train: TrainFunction,
    space: SearchSpace,
    ladder: Ladder,
    *,
    study: str,
    direction: Direction = "minimize",
    configurations: int = CONFIGURATIONS,
    search: SearchFactory = SuccessiveHalving,
    sampling: Sampling = RANDOM,
    initial: Sequence[Mapping[str, Value]] = (),
    seed: int = 0,
    storage: str = DEFAULT_STORAGE,
    sample_unit: str = "samples",
    observer: Observer | None = None,
) -> TuneResult:
    """Search for the best configuration of your own training function, and return it.

    ``train(configuration, fidelity)`` trains ``fidelity.trainable_layers`` layers (see ``frostline.freeze``) on
    ``fidelity.samples`` samples and returns a score, or yields ``(samples, score)`` as it goes. ``configurations`` is the
    total over all runs of the study ``study``, which is kept in ``storage`` and continued if it is there. ``initial`` holds
    configurations to try before any is drawn.
    Raises: StudyError if the study cannot be opened or is another one's; SearchFailedError if no configuration was
    evaluated at full fidelity.
    """
    _checked("direction", direction, get_args(Direction))
    search_plan = search(ladder=ladder, configurations=configurations)
    terms = Terms(
        task=getattr(train, "__qualname__", type(train).__qualname__),
        reference="",
        data="",
        space=space.fingerprint,
        rungs=tuple((rung.trainable_layers, rung.samples) for rung in ladder.rungs),
        num_layers=ladder.num_layers,
        search=search_plan.fingerprint,
        sampler=sampling.name,
        seed=seed,
        direction=direction,
        sample_unit=sample_unit,
        expected=search_plan.evaluations_per_rung(),
        settings="",
    )
    return _search(
        LocalExecutor(evaluate=BlackBox(train=train, root_seed=seed)),
        search_plan,
        Draws(space=space, sampling=sampling, root_seed=seed, direction=direction, initial=tuple(initial)),
        terms,
        study=study,
        storage=storage,
        observer=observer,
    )


def tune_task(
    task: Task,
    *,
    study: str,
    ladder: Ladder | None = None,
    configurations: int = CONFIGURATIONS,
    search: SearchFactory = SuccessiveHalving,
    sampling: Sampling = RANDOM,
    initial: Sequence[Mapping[str, Value]] = (),
    seed: int = 0,
    storage: str = DEFAULT_STORAGE,
    device: str = "auto",
    precision: str = "float32",
    horizon: str = "rung",
    num_validations: int = 4,
    engine: str = "auto",
    memory: str = "auto",
    prefix_cache: str = "auto",
    runs: Path = Path("frostline-runs"),
    observer: Observer | None = None,
    progress: Callable[[Progress], None] | None = None,
    reference: str = "",
) -> TuneResult:
    """Search for the best configuration of a task, and return it.

    Without a ``ladder`` the default one climbs from a fifth of the layers and samples (``Ladder.diagonal``). How the
    trainings run, from ``device`` to ``runs``, is described in ``TrainingOptions``; ``progress`` is told how far they are.
    ``reference`` is what names the task on the command line. A search whose last rung is predicted not to fit into the
    memory is refused. The rest, the errors too, is as in ``tune``.
    """
    climbed = default_ladder(task) if ladder is None else _checked_ladder(ladder, task)
    return search_task(
        task,
        search(ladder=climbed, configurations=configurations),
        options=TrainingOptions(
            device=device,
            precision=precision,
            horizon=horizon,
            num_validations=num_validations,
            engine=engine,
            memory=memory,
            prefix_cache=prefix_cache,
            runs=runs,
        ),
        study=study,
        sampling=sampling,
        initial=initial,
        seed=seed,
        storage=storage,
        observer=observer,
        progress=progress,
        reference=reference,
    )


def search_task(
    task: Task,
    search: Search,
    *,
    study: str,
    options: TrainingOptions,
    sampling: Sampling = RANDOM,
    initial: Sequence[Mapping[str, Value]] = (),
    seed: int = 0,
    storage: str = DEFAULT_STORAGE,
    observer: Observer | None = None,
    progress: Callable[[Progress], None] | None = None,
    reference: str = "",
    known: Callable[[Job], Evaluation | None] | None = None,
    alignment: Alignment = IDENTITY,
) -> TuneResult:
    """Run ``search`` over a task's configurations, and return the best: ``tune_task`` with any search, also over a grid.

    Rungs of fewer layers train configurations as ``alignment`` says. Jobs that ``known`` answers are not trained; it is
    asked with the values that would be.
    Raises: AlignmentError if the alignment does not fit the space or the model.
    """
    settings = options.settings(study=study, seed=seed)
    checkpoints = checkpoints_of(task, settings)
    assert checkpoints is not None
    rungs = search.ladder
    alignment.check(task.space, num_layers=rungs.num_layers)
    terms = Terms(
        task=task.name,
        reference=reference or task.name,
        data=task.fingerprint,
        space=task.space.fingerprint,
        rungs=tuple((rung.trainable_layers, rung.samples) for rung in rungs.rungs),
        num_layers=rungs.num_layers,
        search=search.fingerprint,
        sampler=sampling.name,
        seed=seed,
        direction=task.direction,
        sample_unit=task.sample_unit,
        expected=search.evaluations_per_rung(),
        settings=_settings(options, alignment),
    )
    most = max(rung.trainable_layers for rung in rungs.rungs)
    _require_memory(task, most, settings, options.memory)
    executor = executor_of(
        task,
        options,
        settings,
        num_layers=rungs.num_layers,
        learning=sampling.learning,
        progress=progress or (lambda _: None),
    )
    if known is not None:
        executor = RememberingExecutor(known=known, executor=executor)
    return _search(
        executor if alignment.is_identity else AligningExecutor(alignment=alignment, executor=executor),
        search,
        Draws(
            space=task.space, sampling=sampling, root_seed=seed, direction=task.direction, initial=tuple(initial)
        ),
        terms,
        study=study,
        storage=storage,
        observer=observer,
        forget=checkpoints.forget,
    )


def train_task(
    task: Task,
    hyperparameters: Mapping[str, Value],
    *,
    fidelity: Fidelity | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: str = "float32",
    memory: str = "auto",
) -> tuple[Evaluation, nn.Module]:
    """Train one configuration outside a search, in full unless a ``fidelity`` is given; return its evaluation and model.

    ``memory`` is what it may take, such as "8GiB"; by default what is free.
    Raises: NotEnoughMemoryError if it is predicted to need more.
    """
    configuration = Configuration(number=0, hyperparameters=dict(hyperparameters))
    settings = TrainingSettings(device_plan=device_plan_of(device, precision), root_seed=seed)
    if fidelity is None:
        fidelity = Fidelity(trainable_layers=layers_of(task).num_layers, samples=task.full_samples)
    _require_memory(task, fidelity.trainable_layers, settings, memory)
    return train_model(task, configuration, fidelity, settings)


def _require_memory(task: Task, trainable_layers: int, settings: TrainingSettings, memory: str) -> None:
    available = available_bytes(settings.device_plan.device) if memory == "auto" else parse_size(memory)
    require_memory(task, trainable_layers=trainable_layers, available=available)


def layers_of(task: Task) -> LayerStack:
    """Return the layers of the task's model, built with the task's own configuration."""
    configuration = Configuration(number=0, hyperparameters=task.defaults)

    def build() -> nn.Module:
        return task.build_model(configuration)

    with torch.random.fork_rng():
        try:
            return task.split(build_shapes(build))
        except ModelError:
            # Its forward pass may need values; if it is wrong in itself, it is so again.
            return task.split(build_deferred(build))


def default_ladder(task: Task) -> Ladder:
    """Return the diagonal ladder of a task: layers and samples rise together, from about a fifth of each."""
    return Ladder.diagonal(num_layers=layers_of(task).num_layers, full_samples=task.full_samples)


def _search(
    executor: Executor,
    search: Search,
    draws: Draws,
    terms: Terms,
    *,
    study: str,
    storage: str,
    observer: Observer | None,
    forget: Callable[[int], None] = lambda _: None,
) -> TuneResult:
    opened = SearchStudy.open(storage, study, terms)
    try:
        opened.check_total(search.configurations)
        climb(opened, search, draws, executor, observer, forget)
    finally:
        opened.close()
    history = opened.history
    best = best_evaluation(history)
    if best is None or best.rung != len(search.ladder.rungs) - 1:
        raise SearchFailedError(_why_nothing_was_found(history))
    return TuneResult(
        study=study,
        storage=storage,
        terms=terms,
        summary=summarise(history, search.ladder.rungs, search.evaluations_per_rung()),
        history=history,
        best=best,
    )


def climb(
    study: SearchStudy,
    search: Search,
    draws: Draws,
    executor: Executor,
    observer: Observer | None = None,
    forget: Callable[[int], None] = lambda _: None,
) -> None:
    """Evaluate until the search asks for nothing more: by this process, and by any other on the same study.

    ``forget`` is called with every configuration that will never be evaluated again.
    """
    while True:
        jobs = study.take(search, draws, capacity=executor.capacity)
        for number in study.newly_ended():
            forget(number)
        if not jobs:
            if not study.waiting():
                return
            time.sleep(_WAIT_SECONDS)
        for evaluation in executor.run(jobs):
            study.record(evaluation, search)
            for number in study.newly_ended():
                forget(number)
            if observer is not None:
                observer(evaluation, study.history)


def _settings(options: TrainingOptions, alignment: Alignment) -> str:
    # A search that aligns nothing is what it was before there were alignments.
    return options.fingerprint if alignment.is_identity else f"{options.fingerprint} alignment={alignment}"


def _why_nothing_was_found(history: History) -> str:
    ended = list(history.evaluations())
    failed = [evaluation for evaluation in ended if evaluation.status is not Status.FINISHED]
    first = f" The first one {failed[0].status}: {f'{failed[0].reason}'.removesuffix('.')}." if failed else ""
    return (
        f"no configuration was evaluated at full fidelity: {len(failed)} of {len(ended)} evaluations failed or diverged."
        f"{first}"
    )


def _checked_ladder(ladder: Ladder, task: Task) -> Ladder:
    full = (layers_of(task).num_layers, task.full_samples)
    if (ladder.num_layers, ladder.full_samples) != full:
        raise LadderError(
            f"the ladder ends at {ladder.num_layers} layers and {ladder.full_samples} {task.sample_unit}, but the full "
            f"training of {task.name} is {full[0]} layers and {full[1]} {task.sample_unit}: make it for those."
        )
    return ladder


def _checked(name: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise OptionError(f"{name} is {value!r}, but must be one of {', '.join(allowed)}.")
    return value
