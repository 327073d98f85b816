"""Optimizers that compute gradients elsewhere than where a model is judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from frostline.populations.engines import Engine
from frostline.records import Configuration
from frostline.training.course import kept_models_of
from frostline.training.machine.randomness import borrowed_generators
from frostline.training.serial import train_model, train_serially
from frostline.training.session import begin_session
from frostline.training.supervised.supervised_task import SupervisedTask
from tests.populations.cases import CASES, configuration_of, jobs_of
from tests.populations.test_population import assert_same_as_alone
from tests.training.cases import CPU, configured, job_of, noisy_network, perceptron, regression_task, settings_of

schedulefree = pytest.importorskip("schedulefree")

OPTIMIZERS = ("AdamWScheduleFree", "SGDScheduleFree", "RAdamScheduleFree")
BY_NAME = {case.name: case for case in CASES}


def free_task(optimizer: str = "AdamWScheduleFree", **changes: Any) -> SupervisedTask:
    return regression_task(optimizer=getattr(schedulefree, optimizer), **changes)


def score_of(task: SupervisedTask, model: nn.Module) -> float:
    with torch.no_grad():
        return task.score(model, task.validation_batches(configured()))


def by_hand(optimizer: str, configuration: Configuration) -> nn.Module:
    """Train as the optimizers' own documentation says."""
    task, fresh = free_task(optimizer), perceptron(configuration)
    with borrowed_generators(CPU):
        plan = settings_of().device_plan
        begun = begin_session(task, configuration, trainable_layers=3, device_plan=plan, root_seed=7)
    fresh.load_state_dict(begun.model.state_dict())
    own = getattr(schedulefree, optimizer)(fresh.parameters(), lr=configuration.hyperparameters["learning_rate"])
    own.train()
    for step, (inputs, targets) in enumerate(task.training_batches(configuration, seed=7, skip_samples=0)):
        if step == 20:
            break
        own.zero_grad()
        nn.functional.mse_loss(fresh(inputs), targets).backward()
        own.step()
    own.eval()
    return fresh


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_training_is_theirs(optimizer: str) -> None:
    task, configuration = free_task(optimizer), configured(learning_rate=0.01)
    evaluation, model = train_model(task, configuration, job_of(configuration).fidelity, settings_of())
    theirs = by_hand(optimizer, configuration)
    torch.testing.assert_close(dict(model.state_dict()), dict(theirs.state_dict()), rtol=1e-9, atol=1e-12)
    assert score_of(task, model) == evaluation.score


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_how_often_it_is_validated_changes_nothing(optimizer: str) -> None:
    once, often = (
        train_model(
            free_task(optimizer, model=noisy_network),
            configured(),
            job_of(configured()).fidelity,
            settings_of(num_validations=count),
        )
        for count in (1, 20)
    )
    assert once[0].score == often[0].score
    assert all(torch.equal(value, often[1].state_dict()[name]) for name, value in once[1].state_dict().items())


@pytest.mark.parametrize("layers", [1, 3])
def test_one_that_goes_on_is_what_it_would_have_been(tmp_path: Path, layers: int) -> None:
    task = free_task(model=noisy_network)
    settings = settings_of(checkpoints=tmp_path, horizon="full")
    for samples, path in [(40, ()), (80, (40,))]:
        train_serially(task, job_of(configured(), layers=layers, samples=samples, path=path), settings)
    resumed = train_serially(task, job_of(configured(), layers=layers, path=(40, 80)), settings)
    straight = train_serially(task, job_of(configured(), layers=layers), settings_of(horizon="full"))
    assert resumed.cost.samples == 80
    assert resumed.score == straight.score


@pytest.mark.parametrize("keep_best", [False, True])
def test_batch_normalisation_is_by_the_weights_that_it_is_judged_by(tmp_path: Path, *, keep_best: bool) -> None:
    task = free_task(model=noisy_network, keep_best=keep_best)
    settings = settings_of(checkpoints=tmp_path)
    evaluation, model = train_model(task, configured(), job_of(configured()).fidelity, settings)
    assert score_of(task, model) == evaluation.score
    train_serially(task, job_of(configured()), settings)
    models = kept_models_of(task, settings)
    assert models is not None
    kept = models.load(configured(), noisy_network(configured())).eval()
    assert score_of(task, kept) == evaluation.score
    running = train_serially(task, job_of(configured()), settings_of(statistics="running"))
    assert running.score != evaluation.score


@pytest.mark.parametrize("name", ["mlp", "resnet"])
@pytest.mark.parametrize("layers", [1, 3])
def test_members_of_a_population_follow_their_serial_twins(name: str, layers: int) -> None:
    task = BY_NAME[name].task(optimizer=schedulefree.AdamWScheduleFree)
    jobs = jobs_of([configuration_of(number) for number in range(3)], layers=layers)
    assert_same_as_alone(task, jobs, engine=Engine.SHARED)
    # Nothing is known of how to make many of their steps at once.
    assert_same_as_alone(task, jobs, engine=Engine.STACKED)
