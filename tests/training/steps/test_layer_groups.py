"""The head may train with hyperparameters of its own: alone, together with others, and from a checkpoint."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch import nn

from frostline.errors import HyperparameterError
from frostline.layers import freezing_of
from frostline.populations.engines import Engine
from frostline.populations.population import Population
from frostline.records import Configuration, Fidelity, Job
from frostline.training.files.checkpoints import CheckpointKey
from frostline.training.machine.devices import DevicePlan
from frostline.training.serial import train_model, train_serially
from frostline.training.session import begin_session
from tests.populations.cases import CASES, OPTIMIZERS, Case, configuration_of, jobs_of
from tests.training.cases import settings_of

BY_NAME = {case.name: case for case in CASES}
ENGINES = (Engine.SHARED, Engine.STACKED)


def with_head(number: int) -> Configuration:
    head = {"learning_rate": 0.02 * (number + 1), "weight_decay": 0.3}
    return replace(configuration_of(number), head=head)


def session_of_case(case: Case, configuration: Configuration, *, layers: int, **changes):
    plan = DevicePlan(device=torch.device("cpu"))
    return begin_session(
        case.task(**changes), configuration, trainable_layers=layers, device_plan=plan, root_seed=0
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_head_is_the_last_layer_whatever_is_tied(case: Case) -> None:
    session = session_of_case(case, with_head(1), layers=3)
    others, head = session.optimizer.param_groups
    stack = freezing_of(session.model).stack
    expected = {id(session.model.get_parameter(name)) for name in stack.layers[-1].parameters}
    assert {id(one) for one in head["params"]} == expected
    assert {id(one) for one in others["params"]} | expected == {id(one) for one in session.parameters}
    assert len(others["params"]) + len(head["params"]) == len(session.parameters)
    assert (others["lr"], others["weight_decay"]) == (0.002, 0.02)
    assert (head["lr"], head["weight_decay"]) == (0.04, 0.3)
    assert head["betas"] == others["betas"]


def test_a_head_that_is_all_there_is_to_train_is_one_group() -> None:
    session = session_of_case(BY_NAME["mlp"], with_head(0), layers=1)
    assert [group["lr"] for group in session.optimizer.param_groups] == [0.02]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_it_takes_the_steps_of_two_groups_written_by_hand(optimizer: str) -> None:
    session = session_of_case(BY_NAME["mlp"], with_head(0), layers=3, **OPTIMIZERS[optimizer])
    twin = session_of_case(BY_NAME["mlp"], configuration_of(0), layers=3, **OPTIMIZERS[optimizer])
    last = {id(each) for each in list(twin.model.children())[-1].parameters()}
    plain = twin.optimizer.param_groups[0]
    members = plain["params"]
    shared = {name: value for name, value in plain.items() if name not in ("params", "lr", "weight_decay")}
    by_hand = OPTIMIZERS[optimizer]["optimizer"](
        [
            {"params": [one for one in members if id(one) not in last], "lr": 1e-3, "weight_decay": 0.0, **shared},
            {"params": [one for one in members if id(one) in last], "lr": 0.02, "weight_decay": 0.3, **shared},
        ]
    )
    for batch in islice(session.task.training_batches(session.configuration, seed=0, skip_samples=0), 5):
        session.step(batch, rate_factor=0.5)
        by_hand.zero_grad()
        twin.loss(batch).backward()
        nn.utils.clip_grad_norm_(twin.parameters, twin.max_gradient_norm)
        for group, rate in zip(by_hand.param_groups, (1e-3, 0.02), strict=True):
            group["lr"] = 0.5 * rate
        by_hand.step()
        twin.samples_seen = session.samples_seen
    torch.testing.assert_close(dict(session.model.state_dict()), dict(twin.model.state_dict()))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_population_follows_its_serial_twins(case: Case, engine: Engine) -> None:
    # One with a head of its own beside one without.
    jobs = jobs_of([with_head(0), configuration_of(1), with_head(2)], layers=max(2, case.layers[0]))
    together = sorted(
        Population(case.task(), jobs, settings_of(), engine=engine).run(), key=lambda one: one.number
    )
    for evaluation, job in zip(together, jobs, strict=True):
        alone, _ = train_model(case.task(), job.configuration, job.fidelity, settings_of())
        assert evaluation.score == pytest.approx(alone.score, rel=1e-9)
    plain, _ = train_model(case.task(), configuration_of(0), jobs[0].fidelity, settings_of())
    assert together[0].score != pytest.approx(plain.score, rel=1e-6)


def test_a_checkpoint_is_that_of_its_head(tmp_path: Path) -> None:
    task = BY_NAME["mlp"].task()
    short, full = (Fidelity(trainable_layers=2, samples=samples) for samples in (32, 80))
    settings = settings_of(checkpoints=tmp_path)
    first = Job(configuration=with_head(1), rung=0, fidelity=short, may_continue=True)
    second = Job(configuration=with_head(1), rung=1, fidelity=full, continued_from=(short,))
    train_serially(task, first, settings)
    at_once = train_serially(task, replace(second, continued_from=()), settings_of())
    continued = train_serially(task, second, settings)
    assert continued.cost.samples < at_once.cost.samples
    stems = {
        CheckpointKey(configuration=one, rung=0, path=(short,)).stem
        for one in (with_head(1), configuration_of(1), replace(with_head(1), head={"learning_rate": 1.0}))
    }
    assert len(stems) == 3


def test_what_the_optimizer_does_not_read_is_refused() -> None:
    head = replace(configuration_of(0), head={"warmup_fraction": 0.4})
    with pytest.raises(HyperparameterError, match=r"warmup_fraction of the head changes nothing, because AdamW"):
        session_of_case(BY_NAME["mlp"], head, layers=2)


def test_a_model_that_frostline_did_not_freeze_has_no_head() -> None:
    class Own(type(BY_NAME["mlp"].task())):
        def freeze(self, model: nn.Module, *, trainable_layers: int) -> None:
            for child in list(model.children())[:-trainable_layers]:
                child.requires_grad_(False)

    task = BY_NAME["mlp"].task()
    own = Own(**{name: getattr(task, name) for name in task.__dataclass_fields__})
    plan = DevicePlan(device=torch.device("cpu"))
    with pytest.raises(HyperparameterError, match=r"learning_rate, weight_decay of the head.*frostline\.freeze"):
        begin_session(own, with_head(0), trainable_layers=2, device_plan=plan, root_seed=0)


def test_rates_fall_by_a_factor_from_layer_to_layer_towards_the_input() -> None:
    decayed = replace(
        configuration_of(0), hyperparameters={**configuration_of(0).hyperparameters, "layer_decay": 0.5}
    )
    session = session_of_case(BY_NAME["mlp"], decayed, layers=3)
    assert [group["lr"] for group in session.optimizer.param_groups] == [0.00025, 0.0005, 0.001]
    stack = freezing_of(session.model).stack
    for group, layer in zip(session.optimizer.param_groups, stack.suffix(3), strict=True):
        assert {id(each) for each in group["params"]} == {
            id(session.model.get_parameter(name)) for name in layer.parameters
        }


def test_a_decay_of_one_is_none() -> None:
    plain = configuration_of(0)
    decayed = replace(plain, hyperparameters={**plain.hyperparameters, "layer_decay": 1})
    session = session_of_case(BY_NAME["mlp"], decayed, layers=3)
    assert len(session.optimizer.param_groups) == 1


def test_a_decay_is_a_default_of_the_task_and_beside_the_heads_own_rate() -> None:
    defaults = {**BY_NAME["mlp"].task().defaults, "layer_decay": 0.1}
    configuration = replace(configuration_of(0), head={"learning_rate": 0.02})
    session = session_of_case(BY_NAME["mlp"], configuration, layers=3, defaults=defaults)
    assert [group["lr"] for group in session.optimizer.param_groups] == pytest.approx([1e-5, 1e-4, 0.02])


@pytest.mark.parametrize("decay", [0, 1.5, "half", True])
def test_a_decay_that_is_none_is_refused(decay: object) -> None:
    configuration = replace(
        configuration_of(0), hyperparameters={**configuration_of(0).hyperparameters, "layer_decay": decay}
    )
    with pytest.raises(
        HyperparameterError, match=r"layer_decay is .*, but must be a number above 0 and at most 1"
    ):
        session_of_case(BY_NAME["mlp"], configuration, layers=2)


@pytest.mark.parametrize("engine", ENGINES)
def test_decayed_rates_are_the_same_together_and_alone(engine: Engine) -> None:
    task = BY_NAME["gpt"].task()
    configurations = [
        replace(each, hyperparameters={**each.hyperparameters, "layer_decay": 0.5 + 0.2 * each.number})
        for each in map(configuration_of, range(3))
    ]
    jobs = jobs_of(configurations, layers=3)
    together = {each.number: each for each in Population(task, jobs, settings_of(), engine=engine).run()}
    for job in jobs:
        alone = train_serially(task, job, settings_of())
        curve = [point.score for point in together[job.configuration.number].curve]
        assert curve == pytest.approx([point.score for point in alone.curve], rel=1e-9)
