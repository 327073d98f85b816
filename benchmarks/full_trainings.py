"""Full trainings of a task for searches of other packages, which watch the validations on their way."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from frostline.records import Configuration, Fidelity, Job, Value
from frostline.run.execution.options import TrainingOptions
from frostline.training.course import Course
from frostline.training.machine.randomness import borrowed_generators
from frostline.training.session import begin_session
from frostline.training.supervised.supervised_task import SupervisedTask
from frostline.training.supervised.task_layers import layers_of


def validations(
    task: SupervisedTask, number: int, values: dict[str, Value], options: TrainingOptions, *, seed: int
) -> Iterator[tuple[float, bool]]:
    """Train one configuration in full; yield its score at each validation, and whether that was the last.

    One that diverges ends before.
    """
    settings = options.settings(folder=options.folder, seed=seed)
    configuration = Configuration(number=number, hyperparameters=values)
    num_layers = layers_of(task).num_layers
    begin = partial(
        begin_session,
        task,
        configuration,
        trainable_layers=num_layers,
        device_plan=settings.device_plan,
        root_seed=seed,
    )
    full = Fidelity(trainable_layers=num_layers, samples=task.full_samples)
    device = settings.device_plan.device
    with borrowed_generators(device):
        course = Course(Job(configuration=configuration, rung=0, fidelity=full), begin, settings)
    batches = iter(task.training_batches(configuration, seed=seed, skip_samples=0))
    told = 0
    while not course.finished:
        with borrowed_generators(device):  # not over a yield: several trainings may be under way
            batch = next(batches)
            if course.wants(task.num_samples(batch)):
                course.learn(batch)
                course.conclude()
        curve = course.session.curve
        for index in range(told, len(curve)):
            yield curve[index].score, course.finished and index + 1 == len(curve)
        told = len(curve)
