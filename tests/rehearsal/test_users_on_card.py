"""What users put on a card themselves: their data, and with ``torch.set_default_device`` whatever is made anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import TensorDataset

from frostline.populations.engines import Engine
from frostline.populations.population import Population
from frostline.populations.prefix.prefix_store import PrefixStore
from frostline.run.execution.options import TrainingOptions
from frostline.run.plan import SearchPlan
from frostline.run.tuning import tune_task
from frostline.store.backends.storage import MEMORY
from frostline.training.machine.devices import move_batch
from frostline.training.serial import train_serially
from frostline.training.supervised.supervised_task import SupervisedTask
from tests.populations.cases import configuration_of, jobs_of
from tests.rehearsal.cases import BY_NAME, CARD, ON_A_CARD, SAMPLES, assert_same_evaluation
from tests.training.cases import CPU, settings_of

pytestmark = ON_A_CARD

DATA, DEFAULT = "the data", "the default device"


@pytest.fixture(params=[(DATA,), (DEFAULT,), (DATA, DEFAULT)], ids=lambda there: " and ".join(there))
def there(request: pytest.FixtureRequest) -> Iterator[Any]:
    """What is on the card. The default device is put there after the task has been made."""
    yield request.param
    torch.set_default_device(None)


def on_card(rows: Any) -> TensorDataset:
    return TensorDataset(*(tensor.to(CARD) for tensor in rows.tensors))


def task_of(name: str, there: tuple[str, ...], **changes: Any) -> SupervisedTask:
    task = BY_NAME[name].task(**changes)
    if DATA in there:
        data = {"training_data": on_card(task.training_data), "validation_data": on_card(task.validation_data)}
        task = BY_NAME[name].task(**data, **changes)
    if DEFAULT in there:
        torch.set_default_device(CARD)
    return task


@pytest.mark.parametrize("name", ["gpt", "resnet"])
def test_one_by_one_they_give_the_numbers_of_data_on_the_host(name: str, there: tuple[str, ...]) -> None:
    (job,) = jobs_of([configuration_of(1)], layers=2, samples=SAMPLES)
    settings = settings_of(CARD, num_validations=1)
    expected = train_serially(BY_NAME[name].task(), job, settings)
    if DEFAULT in there:
        # A model that is made on the card begins with what the card draws.
        assert train_serially(task_of(name, there), job, settings).score is not None
    else:
        assert_same_evaluation(train_serially(task_of(name, there), job, settings), expected)


@pytest.mark.parametrize("engine", [Engine.SHARED, Engine.STACKED])
@pytest.mark.parametrize("name", ["gpt", "resnet"])
def test_together_they_give_the_numbers_of_serial_training(
    name: str, engine: Engine, there: tuple[str, ...]
) -> None:
    task, settings = task_of(name, there), settings_of(CARD, num_validations=1)
    jobs = jobs_of([configuration_of(number) for number in range(2)], layers=2, samples=SAMPLES)
    store = PrefixStore(training_bytes=2**20, validation_bytes=2**20) if engine is Engine.SHARED else None
    together = sorted(Population(task, jobs, settings, engine=engine, store=store).run(), key=lambda e: e.number)
    for evaluation, job in zip(together, jobs, strict=True):
        assert_same_evaluation(evaluation, train_serially(task, job, settings))


def test_they_are_searched(tmp_path: Path, there: tuple[str, ...]) -> None:
    task = task_of("resnet", there, full_samples=160)
    training = TrainingOptions(device="cuda", runs=tmp_path)
    result = tune_task(task, study="search", storage=MEMORY, plan=SearchPlan(budget=3), training=training)
    assert result.score is not None


def test_a_batch_that_goes_to_the_cpu_is_there_when_it_is_read() -> None:
    batch = torch.arange(4.0, device=CARD)
    # Without waiting torch would hand out pinned memory that the card has yet to fill.
    moved = move_batch({"inputs": batch}, CPU)["inputs"]
    assert not moved.is_pinned()
    assert moved.tolist() == [0, 1, 2, 3]
