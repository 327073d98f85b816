"""Parameters that weight decay leaves alone: in a step, in a population, beside a head and layers of their own rates."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from optuna.distributions import FloatDistribution

from frostline.errors import HyperparameterError, TaskError
from frostline.populations.engines import Engine
from frostline.populations.population import Population
from frostline.records import Configuration
from frostline.search.spaces.space import SearchSpace
from frostline.training.machine.devices import DevicePlan
from frostline.training.serial import train_model
from frostline.training.session import begin_session
from tests.populations.cases import CASES, configuration_of, jobs_of
from tests.training.cases import settings_of

CASE = {case.name: case for case in CASES}["mlp"]


def task_with(*, undecayed: tuple[str, ...] | None = None):
    task = CASE.task()
    model = task.model(configuration_of(0))
    biases = tuple(name for name, parameter in model.named_parameters() if parameter.dim() < 2)
    return replace(task, undecayed=biases if undecayed is None else undecayed)


def session_with(configuration: Configuration):
    plan = DevicePlan(device=torch.device("cpu"))
    return begin_session(task_with(), configuration, trainable_layers=3, device_plan=plan, root_seed=0)


def decay_of(session, name: str) -> float:
    parameter = session.model.get_parameter(name)
    (group,) = (
        each for each in session.optimizer.param_groups if any(parameter is member for member in each["params"])
    )
    return group["weight_decay"]


@pytest.mark.parametrize("more", [{}, {"layer_decay": 0.5}, {"head": {"weight_decay": 0.3}}], ids=str)
def test_only_matrices_decay(more: dict) -> None:
    plain = configuration_of(1)
    head = more.get("head", {})
    values = {**plain.hyperparameters, **{name: value for name, value in more.items() if name != "head"}}
    session = session_with(replace(plain, hyperparameters=values, head=head))
    trained = [name for name, each in session.model.named_parameters() if each.requires_grad]
    matrices = {name: decay_of(session, name) for name in trained if session.model.get_parameter(name).dim() > 1}
    assert {decay_of(session, name) for name in trained if name not in matrices} == {0}
    assert set(matrices.values()) == {plain["weight_decay"], *head.values()}
    held = [each for group in session.optimizer.param_groups for each in group["params"]]
    assert len(held) == len(trained) == len({id(each) for each in held})


@pytest.mark.parametrize("engine", [Engine.SHARED, Engine.STACKED])
def test_a_population_leaves_them_alone_too(engine: Engine) -> None:
    task = task_with()
    jobs = jobs_of([configuration_of(0), configuration_of(1)], layers=2)
    together = sorted(Population(task, jobs, settings_of(), engine=engine).run(), key=lambda one: one.number)
    for evaluation, job in zip(together, jobs, strict=True):
        alone, _ = train_model(task, job.configuration, job.fidelity, settings_of())
        assert evaluation.score == pytest.approx(alone.score, rel=1e-9)
    decayed, _ = train_model(CASE.task(), jobs[1].configuration, jobs[1].fidelity, settings_of())
    assert together[1].score != pytest.approx(decayed.score, rel=1e-9)


def test_names_that_the_model_does_not_have_are_refused() -> None:
    task = task_with(undecayed=("strange.bias",))
    plan = DevicePlan(device=torch.device("cpu"))
    with pytest.raises(HyperparameterError, match=r"undecayed names strange.bias, which \w+ does not have"):
        begin_session(task, configuration_of(0), trainable_layers=3, device_plan=plan, root_seed=0)
    with pytest.raises(TaskError, match=r"undecayed of .* must be a tuple of names"):
        task_with(undecayed="bias")  # type: ignore[arg-type]


def test_the_fingerprint_tells() -> None:
    assert task_with().fingerprint != task_with(undecayed=()).fingerprint == CASE.task().fingerprint


def test_an_optimizer_that_decays_nothing_takes_them_too() -> None:
    space = SearchSpace(distributions={"learning_rate": FloatDistribution(1e-4, 1e-1, log=True)})
    task = CASE.task(
        space=space, defaults={"learning_rate": 0.01}, optimizer=torch.optim.Rprop, undecayed=task_with().undecayed
    )
    session = begin_session(
        task,
        Configuration(number=0, hyperparameters={"learning_rate": 0.01}),
        trainable_layers=3,
        device_plan=DevicePlan(device=torch.device("cpu")),
        root_seed=0,
    )
    assert len(session.optimizer.param_groups) == 2
