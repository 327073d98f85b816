"""One configuration at a time, in plain torch: the reference for everything faster."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from frostline.layers import freezing_of
from frostline.records import Configuration, Evaluation, Fidelity, Job, Progress
from frostline.training.course import Course, TrainingSettings, checkpoints_of
from frostline.training.machine.devices import peak_bytes, reset_peak_bytes
from frostline.training.machine.pinning import pinned_batches
from frostline.training.machine.randomness import borrowed_generators
from frostline.training.machine.threads import Threads
from frostline.training.session import Session, begin_session
from frostline.training.steps.optimizers import import_optimizers

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from frostline.protocols import Task
    from frostline.training.files.checkpoints import Checkpoints


# What ``populations.engines`` calls this way to train.
_ENGINE = "serial"


def train_serially(
    task: Task,
    job: Job,
    settings: TrainingSettings,
    *,
    threads: Threads | None = None,
    observe: Callable[[Progress], None] = lambda _: None,
) -> Evaluation:
    """Train and validate one configuration at one fidelity, and return its evaluation.

    The result is a function of task, job, seed and device: it does not depend on what else is trained, before or
    beside it, nor on which checkpoints are there; on the number of ``threads``, by default torch's own, it does to rounding.
    How far it is trained, and when it diverges: ``Course``. ``observe`` is told at the beginning and after every step.
    Raises: FidelityError if the job continues something else; whatever the task raises.
    """
    threads = threads or Threads.as_they_are()
    with borrowed_generators(settings.device_plan.device), threads.lent():
        evaluation, session = _evaluate(task, job, settings, checkpoints_of(task, settings), threads, observe)
    freezing = freezing_of(session.model)
    if freezing is not None:
        # Model and freezing hold each other: without this the memory would wait for the garbage collector.
        freezing.restore()
    return evaluation


def train_model(
    task: Task,
    configuration: Configuration,
    fidelity: Fidelity,
    settings: TrainingSettings,
    *,
    threads: Threads | None = None,
    observe: Callable[[Progress], None] = lambda _: None,
) -> tuple[Evaluation, nn.Module]:
    """Train one configuration outside a search; return its evaluation, and the model in evaluation mode.

    The numbers are those of ``train_serially`` at the same fidelity. No checkpoint is read or written.
    """
    job = Job(configuration=configuration, rung=0, fidelity=fidelity)
    threads = threads or Threads.as_they_are()
    with borrowed_generators(settings.device_plan.device), threads.lent():
        evaluation, session = _evaluate(task, job, settings, None, threads, observe)
    return evaluation, session.model.eval()


def _evaluate(
    task: Task,
    job: Job,
    settings: TrainingSettings,
    checkpoints: Checkpoints | None,
    threads: Threads,
    observe: Callable[[Progress], None],
) -> tuple[Evaluation, Session]:
    device = settings.device_plan.device
    import_optimizers()
    reset_peak_bytes(device)
    begin = time.perf_counter()

    def begin_anew() -> Session:
        return begin_session(
            task,
            job.configuration,
            trainable_layers=job.fidelity.trainable_layers,
            device_plan=settings.device_plan,
            root_seed=settings.root_seed,
        )

    course = Course(job, begin_anew, settings, checkpoints=checkpoints)
    kind = ("one by one", job.fidelity.trainable_layers)
    started = course.session.samples_seen
    observe(_progress(course, started))
    batches = task.training_batches(job.configuration, seed=settings.root_seed, skip_samples=started)
    for batch in pinned_batches(batches, settings.device_plan):
        if not course.wants(task.num_samples(batch)):
            break
        with threads.step(kind, work=1):
            course.learn(batch)
        course.conclude()
        observe(_progress(course, started))
        if course.finished:
            break
    course.close()
    course.seconds = time.perf_counter() - begin
    return course.evaluation(peak_bytes=peak_bytes(device)), course.session


def _progress(course: Course, started: int) -> Progress:
    curve = course.session.curve
    return Progress(
        rung=course.job.rung,
        members=1,
        engine=_ENGINE,
        started=started,
        samples=course.session.samples_seen,
        budget=course.job.fidelity.samples,
        scores={course.job.configuration.number: curve[-1].score} if curve else {},
    )
