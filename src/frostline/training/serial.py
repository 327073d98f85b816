"""One configuration at a time, in plain torch: the reference for everything faster."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import nn

from frostline.errors import FidelityError, OptionError, TaskError
from frostline.layers import freezing_of
from frostline.records import Configuration, Cost, CurvePoint, Evaluation, Fidelity, Job, Status
from frostline.training.checkpoints import CheckpointKey, Checkpoints
from frostline.training.devices import DevicePlan, peak_bytes, reset_peak_bytes
from frostline.training.randomness import borrowed_generators
from frostline.training.readings import Readings
from frostline.training.schedules import share_done
from frostline.training.session import Session, begin_session

if TYPE_CHECKING:
    from pathlib import Path

    from frostline.protocols import Task

logger = logging.getLogger(__name__)

# Reading a loss makes the host wait for an accelerator: there it is read this many steps late.
_STEPS_BETWEEN_READINGS = 16

_HORIZONS = ("rung", "full")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """How a study trains, the same for all of its configurations.

    ``horizon`` "rung" compresses the learning-rate schedule to the samples of the rung, "full" cuts the full one
    short. ``num_validations`` are made in every rung, after equal shares of its samples; the last one is the
    score.
    Raises: OptionError if ``horizon`` or ``num_validations`` is out of range.
    """

    device_plan: DevicePlan
    root_seed: int
    horizon: str = "rung"
    checkpoint_directory: Path | None = None
    num_validations: int = 4

    def __post_init__(self) -> None:
        if self.horizon not in _HORIZONS:
            raise OptionError(f"horizon is {self.horizon!r}, but must be one of {', '.join(_HORIZONS)}.")
        if self.num_validations < 1:
            raise OptionError(
                f"num_validations is {self.num_validations}, but the last one is the score: use at least 1."
            )


def checkpoints_of(task: Task, settings: TrainingSettings) -> Checkpoints | None:
    """Return where a study with these settings keeps its checkpoints; None if it keeps none."""
    if settings.checkpoint_directory is None:
        return None
    way = f"{settings.horizon} {settings.device_plan.compute_dtype} {settings.num_validations}"
    return Checkpoints.of_study(
        settings.checkpoint_directory, fingerprint=task.fingerprint, root_seed=settings.root_seed, settings=way
    )


def train_serially(task: Task, job: Job, settings: TrainingSettings) -> Evaluation:
    """Train and validate one configuration at one fidelity, and return its evaluation.

    It makes as many steps as whole batches fit into the samples, and at least one. The result is a function of
    task, job, seed and device: it does not depend on what else is trained, before or beside it, nor on which
    checkpoints are there. A loss, gradient norm or score that is not finite ends it as diverged.
    Raises: FidelityError if the job continues something else; whatever the task raises.
    """
    with borrowed_generators(settings.device_plan.device):
        evaluation, session = _evaluate(task, job, settings)
    freezing = freezing_of(session.model)
    if freezing is not None:
        # Model and freezing hold each other: without this the memory would wait for the garbage collector.
        freezing.restore()
    return evaluation


def train_model(
    task: Task, configuration: Configuration, fidelity: Fidelity, settings: TrainingSettings
) -> tuple[Evaluation, nn.Module]:
    """Train one configuration outside a search; return its evaluation, and the model in evaluation mode.

    The numbers are those of ``train_serially`` at the same fidelity. No checkpoint is read or written.
    """
    job = Job(configuration=configuration, rung=0, fidelity=fidelity)
    with borrowed_generators(settings.device_plan.device):
        evaluation, session = _evaluate(task, job, settings, checkpoints=False)
    return evaluation, session.model.eval()


def _evaluate(
    task: Task, job: Job, settings: TrainingSettings, *, checkpoints: bool = True
) -> tuple[Evaluation, Session]:
    path = _path_of(job)
    store = checkpoints_of(task, settings) if checkpoints else None
    device = settings.device_plan.device
    # A process's first optimizer makes torch import its compiler (seconds, torch 2.13): no cost of this evaluation.
    torch.optim.SGD([torch.zeros(1)])
    reset_peak_bytes(device)
    begin = time.perf_counter()
    session, rungs_done = _resumed(task, job, settings, store)
    samples_before = session.samples_seen
    reason = None
    for rung in range(rungs_done, len(path)):
        if rung > rungs_done and store is not None:
            store.save(_key(job, rung - 1), session.checkpoint())
        reason = _advance(session, job.configuration, settings, budget=path[rung].samples)
        if reason is not None:
            break
    evaluation = Evaluation(
        number=job.configuration.number,
        rung=job.rung,
        fidelity=job.fidelity,
        status=Status.FINISHED if reason is None else Status.DIVERGED,
        score=session.curve[-1].score if reason is None else None,
        cost=Cost(
            seconds=time.perf_counter() - begin,
            samples=session.samples_seen - samples_before,
            peak_bytes=peak_bytes(device),
        ),
        curve=tuple(session.curve),
        reason=reason,
    )
    if store is not None and reason is None and job.may_continue and job.fidelity.samples < task.full_samples:
        store.save(_key(job, len(path) - 1), session.checkpoint())
    return evaluation, session


def _path_of(job: Job) -> tuple[Fidelity, ...]:
    """Return the fidelities that the job's training goes through, its own last."""
    path = (*job.continued_from, job.fidelity)
    for lower, higher in pairwise(path):
        if lower.trainable_layers != higher.trainable_layers or lower.samples > higher.samples:
            raise FidelityError(
                f"a training of {lower.trainable_layers} layers on {lower.samples} samples cannot go on to "
                f"{higher.trainable_layers} layers and {higher.samples} samples: only the samples may rise; a "
                f"training of other layers starts from scratch."
            )
    return path


def _key(job: Job, index: int) -> CheckpointKey:
    """Return the key of the checkpoint after the fidelity ``index`` of the job's path."""
    path = _path_of(job)
    rung = job.rung - (len(path) - 1 - index)
    return CheckpointKey(configuration=job.configuration, rung=rung, path=path[: index + 1])


def _resumed(task: Task, job: Job, settings: TrainingSettings, store: Checkpoints | None) -> tuple[Session, int]:
    """Return a session after the highest rung that has a checkpoint, or a new one, and its number of rungs."""

    def begin() -> Session:
        return begin_session(
            task,
            job.configuration,
            trainable_layers=job.fidelity.trainable_layers,
            device_plan=settings.device_plan,
            root_seed=settings.root_seed,
        )

    for index in reversed(range(len(job.continued_from))):
        checkpoint = None if store is None else store.load(_key(job, index))
        if checkpoint is not None:
            session = begin()
            try:
                session.restore(checkpoint)
            except (RuntimeError, KeyError, ValueError) as error:
                logger.warning("%s is not used, the training is made again: %s", _key(job, index).stem, error)
            else:
                return session, index + 1
    return begin(), 0


def _advance(
    session: Session, configuration: Configuration, settings: TrainingSettings, *, budget: int
) -> str | None:
    """Train on to ``budget`` samples, validating on the way; return why it diverged, or None if it did not."""
    task = session.task
    schedule = task.build_schedule(configuration)
    horizon = budget if settings.horizon == "rung" else task.full_samples
    readings = Readings(interval=1 if settings.device_plan.device.type == "cpu" else _STEPS_BETWEEN_READINGS)
    batches = task.training_batches(configuration, seed=settings.root_seed, skip_samples=session.samples_seen)
    for batch in batches:
        before, batch_samples = session.samples_seen, task.num_samples(batch)
        if before > 0 and before + batch_samples > budget:
            break
        share = share_done(samples_seen=before, batch_samples=batch_samples, horizon_samples=horizon)
        readings.add(before, *session.step(batch, rate_factor=schedule(share)))
        shares = settings.num_validations
        due = session.samples_seen * shares // budget > before * shares // budget
        reason = readings.complaint(at_once=due) or (_validate(session, configuration) if due else None)
        if reason is not None:
            return reason
        if session.samples_seen >= budget:
            break
    if session.samples_seen == 0:
        raise TaskError(f"{task.name} gave no training batch: training_batches must yield without end.")
    validated = bool(session.curve) and session.curve[-1].samples == session.samples_seen
    return readings.complaint(at_once=True) or (None if validated else _validate(session, configuration))


def _validate(session: Session, configuration: Configuration) -> str | None:
    """Add a point to the curve; return why it is none, or None if it is."""
    score = session.score(configuration)
    if not math.isfinite(score):
        return f"the score after {session.samples_seen} samples is {score}"
    session.curve.append(CurvePoint(session.samples_seen, score))
    return None
