"""All members' weights updated at once are those that their optimizers make of them one by one."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from frostline.populations.stacking.joint_update import MOST_NUMBERS, cannot_join, is_worth_joining
from frostline.populations.stacking.stacked import StackedStep
from frostline.protocols import Batch
from frostline.records import Configuration
from frostline.training.machine.devices import DevicePlan
from frostline.training.machine.randomness import borrowed_generators
from frostline.training.session import Session, begin_session
from frostline.training.supervised.supervised_task import SupervisedTask
from tests.training.cases import CPU, configured, perceptron, regression_task

OPTIMIZERS: dict[str, dict[str, Any]] = {
    "AdamW": {"optimizer": "AdamW", "weight_decay": 0.1, "beta1": 0.8},
    "Adam": {"optimizer": "Adam", "weight_decay": 0.1, "epsilon": 1e-3},
    "SGD": {"optimizer": "SGD", "momentum": 0.9, "weight_decay": 0.01, "dampening": 0.3},
    "Nesterov": {"optimizer": "SGD", "momentum": 0.8, "nesterov": True},
}


@pytest.fixture(autouse=True)
def _borrowed() -> Iterator[None]:
    with borrowed_generators(CPU):
        yield


def begun(task: SupervisedTask, hyperparameters: Sequence[dict[str, Any]], layers: int = 3) -> list[Session]:
    return [
        begin_session(
            task,
            configured(number, **{"learning_rate": 0.01 * 1.2**number, **each}),
            trainable_layers=layers,
            device_plan=DevicePlan(device=CPU),
            root_seed=3,
        )
        for number, each in enumerate(hyperparameters)
    ]


def three(name: str, **more: Any) -> list[dict[str, Any]]:
    """Hyperparameters that differ, of which the second is not clipped."""
    bounds: tuple[dict[str, Any], ...] = ({"gradient_clip_norm": 0.3}, {}, {"gradient_clip_norm": 1.5})
    return [{**OPTIMIZERS[name], **bound, **more} for bound in bounds]


def batches_of(task: SupervisedTask) -> Iterator[Batch]:
    return iter(task.training_batches(configured(), seed=3, skip_samples=0))


def alone(sessions: Sequence[Session], batch: Batch, factor: float = 1.0) -> None:
    for session in sessions:
        session.step(batch, rate_factor=factor)


def assert_same(sessions: Sequence[Session], twins: Sequence[Session], tolerance: float = 1e-10) -> None:
    """Weights, states of the optimizers and rates are the same."""
    for session, twin in zip(sessions, twins, strict=True):
        ours, theirs = session.optimizer.state_dict(), twin.optimizer.state_dict()
        torch.testing.assert_close(ours["state"], theirs["state"], rtol=tolerance, atol=tolerance)
        rates = [[group["lr"] for group in each["param_groups"]] for each in (ours, theirs)]
        assert rates[0] == rates[1]
        torch.testing.assert_close(session.parameters, twin.parameters, rtol=tolerance, atol=tolerance)
        assert session.samples_seen == twin.samples_seen


@pytest.mark.parametrize("decay", [1.0, 0.7], ids=["one-rate", "rates-by-layer"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weights_and_states_are_those_of_the_optimizers_alone(name: str, decay: float) -> None:
    task = regression_task()
    more = {} if decay == 1.0 else {"layer_decay": decay}
    sessions, twins = begun(task, three(name, **more)), begun(task, three(name, **more))
    assert len(sessions[0].optimizer.param_groups) == (1 if decay == 1.0 else 3)
    batches = batches_of(task)
    stacked = StackedStep(sessions, joint=True)
    for step in range(6):
        batch, factor = next(batches), 1 / (1 + step)
        stacked.step(batch, [factor] * 3)
        alone(twins, batch, factor)
        assert all(parameter.grad is None for session in sessions for parameter in session.parameters)
    assert_same(sessions, twins)


@pytest.mark.parametrize("begins_alone", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_who_leaves_goes_on_alone_and_who_comes_brings_its_state(name: str, begins_alone: bool) -> None:
    task = regression_task()
    sessions, twins = begun(task, three(name)), begun(task, three(name))
    batches = batches_of(task)
    if begins_alone:
        batch = next(batches)
        alone(sessions, batch)
        alone(twins, batch)
    for staying in (sessions, sessions[1:]):
        stacked = StackedStep(staying, joint=True)
        for _ in range(2):
            batch = next(batches)
            stacked.step(batch, [1.0] * len(staying))
            alone([session for session in sessions if session not in staying], batch)
            alone(twins, batch)
        stacked.release()
        held = [value for each in staying for state in each.optimizer.state.values() for value in state.values()]
        assert all(value.untyped_storage().nbytes() == value.nbytes for value in held)
    batch = next(batches)
    alone(sessions, batch)
    alone(twins, batch)
    assert_same(sessions, twins)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_checkpoint_is_as_small_as_one_made_alone_and_gone_on_with_in_place(name: str) -> None:
    task = regression_task()
    sessions, twins = begun(task, three(name)), begun(task, three(name))
    batches = batches_of(task)
    stacked = StackedStep(sessions, joint=True)
    batch = next(batches)
    stacked.step(batch, [1.0] * 3)
    alone(twins, batch)
    files = [io.BytesIO(), io.BytesIO()]
    for file, session in zip(files, (sessions[0], twins[0]), strict=True):
        torch.save(dict(session.checkpoint().contents()), file)
    assert files[0].tell() == files[1].tell()
    kept = [session.checkpoint() for session in sessions]
    for _ in range(2):
        stacked.step(next(batches), [1.0] * 3)
    for session, checkpoint in zip(sessions, kept, strict=True):
        session.restore(checkpoint)
    following = next(batches)
    stacked.step(following, [1.0] * 3)
    alone(twins, following)
    assert_same(sessions, twins)


class Aside(nn.Module):
    """A layer whose second weight gets no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Linear(5, 1).double()
        self.unused = nn.Parameter(torch.ones(2, dtype=torch.float64))

    def forward(self, inputs: Tensor) -> Tensor:
        result: Tensor = self.used(inputs)
        return result


def test_weights_without_a_gradient_are_left_alone() -> None:
    task = regression_task(model=lambda _: nn.Sequential(Aside()))
    sessions, twins = begun(task, three("AdamW"), layers=1), begun(task, three("AdamW"), layers=1)
    batches = batches_of(task)
    stacked = StackedStep(sessions, joint=True)
    for _ in range(3):
        batch = next(batches)
        stacked.step(batch, [1.0] * 3)
        alone(twins, batch)
    assert_same(sessions, twins)
    assert torch.equal(sessions[0].parameters[0], torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize(
    ("hyperparameters", "reason"),
    [
        ({"optimizer": "RMSprop"}, "RMSprop steps each configuration by itself"),
        ({"optimizer": "SGD"}, "SGD has no momentum"),
        ({"optimizer": "AdamW", "amsgrad": True}, "amsgrad is set"),
    ],
)
def test_what_has_no_joint_step_is_said_and_stepped_one_by_one(hyperparameters: Any, reason: str) -> None:
    task = regression_task()
    sessions, twins = begun(task, [hyperparameters] * 2), begun(task, [hyperparameters] * 2)
    assert cannot_join(sessions) == reason
    stacked, batch = StackedStep(sessions, joint=True), next(batches_of(task))
    stacked.step(batch, [1.0] * 2)
    alone(twins, batch)
    assert_same(sessions, twins)


def test_optimizers_that_differ_or_are_watched_step_one_by_one() -> None:
    task = regression_task()
    differing = begun(task, [OPTIMIZERS["AdamW"], OPTIMIZERS["SGD"]])
    assert cannot_join(differing) == "their optimizers differ"
    halting = begun(task, [{**OPTIMIZERS["SGD"], "momentum": each} for each in (0.0, 0.9)])
    assert cannot_join(halting) == "some have a momentum and others not"
    watched = begun(task, three("Adam"))
    assert cannot_join(watched) is None
    watched[1].optimizer.register_step_post_hook(lambda *_: None)
    assert cannot_join(watched) == "Adam has hooks of the user's"
    uneven = begun(task, three("Adam"))
    alone(uneven, next(batches_of(task)))
    assert cannot_join(uneven) is None
    uneven[0].optimizer.state[uneven[0].parameters[0]]["step"] += 1
    assert cannot_join(uneven) == "some weights have made more steps than others"
    del uneven[0].optimizer.state[uneven[0].parameters[0]]
    assert cannot_join(uneven) == "some weights have made steps that others have not"


def test_weights_in_half_precision_step_one_by_one() -> None:
    sessions = begun(regression_task(model=lambda each: perceptron(each)), three("AdamW"))
    for session in sessions:
        session.model.to(torch.bfloat16)
    assert cannot_join(sessions) == "trained weights are bfloat16"


def test_only_small_members_are_updated_at_once_by_default() -> None:
    def wide(_configuration: Configuration) -> nn.Module:
        return nn.Sequential(
            nn.Linear(5, MOST_NUMBERS["cpu"] // 6 + 1), nn.Linear(MOST_NUMBERS["cpu"] // 6 + 1, 1)
        ).double()

    (small,) = begun(regression_task(), [OPTIMIZERS["AdamW"]])
    (large,) = begun(regression_task(model=wide), [OPTIMIZERS["AdamW"]], layers=2)
    assert is_worth_joining(small)
    assert not is_worth_joining(large)
