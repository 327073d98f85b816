"""Trainings that are judged by the best of their validations, and end with the weights that had it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from frostline.errors import TaskError
from frostline.populations.engines import Engine
from frostline.protocols import Schedule
from frostline.records import Configuration, Evaluation, Fidelity, Status
from frostline.training.course import checkpoints_of, kept_models_of
from frostline.training.machine.randomness import borrowed_generators
from frostline.training.serial import train_model, train_serially
from frostline.training.session import begin_session
from frostline.training.supervised.supervised_task import SupervisedTask
from tests.populations.cases import CASES, Case, configuration_of, jobs_of, vectors
from tests.populations.test_models_that_change import Annealed, Listed, WithTeacher
from tests.populations.test_population import assert_same_as_alone
from tests.training.cases import configured, job_of, noisy_network, perceptron, regression_task, settings_of

PATH = (40, 80, 160)
LAYERS = pytest.mark.parametrize("layers", [1, 3])


def spoiling(_configuration: Configuration) -> Schedule:
    """A rate that unlearns in the second half what was learnt in the first."""
    return lambda share: 1.0 if share < 0.5 else -10.0


def spoilt_task(*, keep_best: bool = True, model: object = perceptron) -> SupervisedTask:
    return regression_task(schedule=spoiling, keep_best=keep_best, model=model)


def scores(evaluation: Evaluation) -> list[float]:
    return [point.score for point in evaluation.curve]


def score_of(task: SupervisedTask, model: nn.Module) -> float:
    with torch.no_grad():
        return task.score(model, task.validation_batches(configured()))


@LAYERS
def test_a_training_comes_to_the_best_of_its_validations(layers: int) -> None:
    last, best = (
        train_serially(
            spoilt_task(keep_best=kept), job_of(configured(), layers=layers), settings_of(num_validations=count)
        )
        for kept, count in [(False, 10), (True, 4)]
    )
    spoilt = scores(last)
    assert spoilt[-1] > min(spoilt)
    # There are ten to choose from at least.
    assert scores(best) == [min(spoilt[: index + 1]) for index in range(10)]
    assert best.score == min(spoilt)


@LAYERS
def test_its_model_is_the_one_that_had_this_score(layers: int) -> None:
    task, job = spoilt_task(), job_of(configured(), layers=layers)
    evaluation, model = train_model(task, job.configuration, job.fidelity, settings_of())
    assert score_of(task, model) == evaluation.score


@pytest.mark.parametrize("model", [Annealed, Listed, WithTeacher])
def test_so_it_is_of_a_model_that_changes_itself(model: Callable[[], nn.Module]) -> None:
    case = Case(name="changing", model=model, data=vectors, loss=nn.functional.cross_entropy, layers=())
    task = case.task(schedule=spoiling, keep_best=True)
    fidelity = Fidelity(trainable_layers=5, samples=task.full_samples)
    evaluation, trained = train_model(task, configuration_of(2), fidelity, settings_of())
    assert score_of(task, trained) == evaluation.score


def test_so_it_is_where_frozen_statistics_follow_the_batches() -> None:
    task = regression_task(
        model=noisy_network, schedule=spoiling, keep_best=True, frozen_statistics="batch", full_samples=320
    )
    evaluation, trained = train_model(
        task,
        configured(learning_rate=0.1),
        Fidelity(trainable_layers=1, samples=320),
        settings_of(statistics="running"),
    )
    assert score_of(task, trained) == evaluation.score


def test_so_is_the_model_that_a_study_keeps(tmp_path: Path) -> None:
    task, settings = spoilt_task(), settings_of(checkpoints=tmp_path)
    evaluation = train_serially(task, job_of(configured()), settings)
    models = kept_models_of(task, settings)
    assert models is not None
    assert score_of(task, models.load(configured(), perceptron(configured())).eval()) == evaluation.score


def test_higher_may_be_better() -> None:
    task = regression_task(
        schedule=spoiling,
        keep_best=True,
        direction="maximize",
        score_function=lambda outputs, targets: -nn.functional.mse_loss(outputs, targets),
    )
    lowest = train_serially(spoilt_task(), job_of(configured()), settings_of())
    assert scores(train_serially(task, job_of(configured()), settings_of())) == [
        -score for score in scores(lowest)
    ]


@pytest.mark.parametrize("layers", [1, 3])
def test_the_best_of_a_lower_rung_is_remembered(tmp_path: Path, layers: int) -> None:
    task = spoilt_task()
    settings = settings_of(checkpoints=tmp_path, horizon="full", num_validations=8)
    jobs = [
        job_of(configured(), layers=layers, samples=samples, path=PATH[:index])
        for index, samples in enumerate(PATH)
    ]
    for job in jobs[:-1]:
        train_serially(task, job, settings)
    with borrowed_generators(torch.device("cpu")):
        resumed = train_serially(task, jobs[-1], settings)
    straight, model = train_model(task, jobs[-1].configuration, jobs[-1].fidelity, settings)
    assert resumed.cost.samples == 80
    assert scores(resumed)[-1] == scores(straight)[-1] == score_of(task, model)
    # It was in the first half, of which this process has made no step.
    assert min(point.samples for point in straight.curve if point.score == straight.score) <= 80
    checkpoints = checkpoints_of(task, settings)
    assert checkpoints is not None
    assert checkpoints.keeps_any()


def test_its_statistics_are_those_that_it_was_scored_by() -> None:
    task = spoilt_task(model=noisy_network)
    job = job_of(configured(), layers=3)
    evaluation, model = train_model(task, job.configuration, job.fidelity, settings_of())
    running, _ = train_model(task, job.configuration, job.fidelity, settings_of(statistics="running"))
    assert score_of(task, model) == evaluation.score
    assert evaluation.score != running.score


@pytest.mark.parametrize("engine", [Engine.SHARED, Engine.STACKED])
@pytest.mark.parametrize(
    "case", [case for case in CASES if case.name in ("mlp", "resnet", "gpt")], ids=lambda case: case.name
)
@pytest.mark.parametrize("layers", [1, 3])
def test_members_of_a_population_keep_their_own(case: Case, layers: int, engine: Engine) -> None:
    task = case.task(keep_best=True, schedule=spoiling)
    jobs = jobs_of([configuration_of(number) for number in range(3)], layers=layers)
    evaluations = assert_same_as_alone(task, jobs, settings_of(num_validations=5), engine=engine)
    assert all(scores(each) == sorted(scores(each), reverse=True) for each in evaluations)
    last = [train_serially(case.task(schedule=spoiling), job, settings_of(num_validations=5)) for job in jobs]
    assert any(one.score < other.score for one, other in zip(evaluations, last, strict=True))


def test_one_that_diverges_has_no_score_all_the_same() -> None:
    task = regression_task(schedule=lambda _: lambda share: 1.0 if share < 0.5 else 1e200, keep_best=True)
    evaluation = train_serially(task, job_of(configured()), settings_of())
    assert evaluation.status is Status.DIVERGED
    assert evaluation.score is None


def test_it_is_another_task() -> None:
    assert spoilt_task().fingerprint != spoilt_task(keep_best=False).fingerprint
    with pytest.raises(TaskError, match="keep_best of regression is 'yes', but must be True or False"):
        regression_task(keep_best="yes")


def test_a_task_of_ones_own_need_not_say() -> None:
    task = regression_task()
    session = begin_session(
        task, configured(), trainable_layers=3, device_plan=settings_of().device_plan, root_seed=7
    )
    assert session.judged(2.0) == 2.0
    assert session.judged(3.0) == 3.0
    assert session.best is None
