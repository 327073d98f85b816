"""What a card is compared by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from frostline.records import Evaluation, Job
from frostline.training.machine.devices import DevicePlan
from frostline.training.serial import train_model
from frostline.training.session import Session, begin_session
from frostline.training.supervised.task_layers import layers_of
from tests.populations.cases import BATCH_SIZE, CASES, configuration_of, jobs_of
from tests.training.cases import CPU, settings_of

CARD = torch.device("cuda")
STEPS = 3
SAMPLES = STEPS * BATCH_SIZE
BY_NAME = {case.name: case for case in CASES}
ON_A_CARD = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


@contextmanager
def no_waiting() -> Iterator[None]:
    """Let whatever waits for the device raise."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def assert_same_evaluation(there: Evaluation, here: Evaluation) -> None:
    assert (there.status, there.reason) == (here.status, here.reason)
    assert [point.samples for point in there.curve] == [point.samples for point in here.curve]
    assert [point.score for point in there.curve] == pytest.approx([each.score for each in here.curve], rel=1e-7)


def assert_same_weights(there: Mapping[str, Tensor], here: Mapping[str, Tensor]) -> None:
    moved = {name: value.cpu() for name, value in there.items()}
    torch.testing.assert_close(moved, dict(here), rtol=1e-7, atol=1e-9)


def trained_on(device: torch.device, task: Any, job: Job) -> tuple[Evaluation, dict[str, Tensor]]:
    evaluation, model = train_model(task, job.configuration, job.fidelity, settings_of(device, num_validations=1))
    return evaluation, model.state_dict()


def assert_same_on_both(task: Any, *, layers: int, samples: int = SAMPLES) -> None:
    (job,) = jobs_of([configuration_of(1)], layers=layers, samples=samples)
    there, their_weights = trained_on(CARD, task, job)
    here, our_weights = trained_on(CPU, task, job)
    assert_same_evaluation(there, here)
    assert_same_weights(their_weights, our_weights)
    if getattr(task, "frozen_placement", "device") == "device":
        assert {value.device.type for value in their_weights.values()} == {"cuda"}


def session_on_card(task: Any, *, layers: int, **plan: Any) -> Session:
    return begin_session(
        task,
        configuration_of(1),
        trainable_layers=layers,
        device_plan=DevicePlan(device=CARD, **plan),
        root_seed=7,
    )


def task_layers(task: Any) -> int:
    return layers_of(task).num_layers


def step_on_card(task: Any) -> None:
    session = session_on_card(task, layers=2)
    session.step(next(task.training_batches(session.configuration, seed=0, skip_samples=0)), rate_factor=1.0)


def is_rehearsed() -> bool:
    return "host memory" in torch.cuda.get_device_name(CARD)
