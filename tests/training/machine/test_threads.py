"""Trainings compute with the number of threads that they are lent, and put it back."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from frostline.populations.engines import Engine, EngineTrial
from frostline.populations.population import Population
from frostline.records import Configuration, Fidelity, Job
from frostline.training.machine import thread_trial
from frostline.training.machine.threads import Threads
from frostline.training.serial import train_model, train_serially
from frostline.training.supervised.supervised_task import SupervisedTask
from tests.training.cases import CPU, regression_task, settings_of

USED: list[int] = []


class Counting(nn.Module):
    """Says how many threads torch has when it runs."""

    def forward(self, inputs: Tensor) -> Tensor:
        USED.append(torch.get_num_threads())
        return inputs


def counting(_configuration: Configuration) -> nn.Module:
    trained = nn.Sequential(Counting(), nn.Linear(8, 1))
    return nn.Sequential(nn.Linear(5, 8), nn.Sequential(nn.Tanh(), nn.Linear(8, 8)), trained).double()


@pytest.fixture
def used() -> list[int]:
    USED.clear()
    return USED


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def measured_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread_trial, "_LEAST_SECONDS", 0.0)
    # Steps that were slow by chance would be measured again, after so few seconds.
    monkeypatch.setattr(thread_trial, "_KEPT_WHEN_SLOW", (3600.0, 0.0))


def job(number: int = 0) -> Job:
    configuration = Configuration(number=number, hyperparameters={"learning_rate": 0.01 * (number + 1)})
    return Job(configuration=configuration, rung=0, fidelity=Fidelity(trainable_layers=2, samples=160))


@pytest.fixture
def task() -> SupervisedTask:
    return regression_task(model=counting)


def test_a_number_is_taken_as_it_is_and_put_back(used: list[int], task: SupervisedTask) -> None:
    train_serially(task, job(), settings_of(), threads=Threads.of(3, CPU))
    assert set(used) == {3}
    assert torch.get_num_threads() == 1
    train_model(
        task, job().configuration, job().fidelity, settings_of(), threads=Threads.of(2, torch.device("meta"))
    )
    assert set(used) == {3, 2}
    assert torch.get_num_threads() == 1


def test_it_is_put_back_when_a_training_raises(task: SupervisedTask) -> None:
    def breaks(_configuration: Configuration) -> nn.Module:
        raise ValueError("no model")

    with pytest.raises(ValueError, match="no model"):
        train_serially(regression_task(model=breaks), job(), settings_of(), threads=Threads.of(2, CPU))
    assert torch.get_num_threads() == 1


@pytest.mark.usefixtures("two_threads")
def test_auto_measures_up_to_what_torch_has_and_on_the_cpu_alone() -> None:
    threads = Threads.of("auto", CPU)
    assert (threads.most, threads.is_measured, threads.settled) == (2, True, None)
    assert not Threads.of("auto", torch.device("cuda")).is_measured
    torch.set_num_threads(1)
    assert (Threads.of("auto", CPU).is_measured, Threads.of("auto", CPU).settled) == (False, 1)


@pytest.mark.usefixtures("measured_at_once")
def test_a_training_is_measured_on_its_own_steps(
    used: list[int], task: SupervisedTask, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    threads = Threads(most=2, is_measured=True)
    evaluation = train_serially(task, job(), settings_of(), threads=threads)
    assert evaluation.cost.samples == 160
    assert set(used) == {1, 2}
    assert threads.settled in (1, 2)
    assert torch.get_num_threads() == 1
    assert any("threads" in record.getMessage() and "ms on 2" in record.getMessage() for record in caplog.records)
    # What is known is not measured again.
    used.clear()
    known = threads.settled
    train_serially(task, job(), settings_of(), threads=threads)
    assert set(used) == {known}


@pytest.mark.usefixtures("measured_at_once")
@pytest.mark.parametrize("engine", [Engine.SHARED, Engine.STACKED])
def test_a_population_is_measured_and_gives_torch_back_in_between(
    engine: Engine, used: list[int], task: SupervisedTask
) -> None:
    threads = Threads(most=2, is_measured=True)
    population = Population(task, [job(0), job(1)], settings_of(), engine=engine, threads=threads)
    assert torch.get_num_threads() == 1
    for _ in population.run():
        assert torch.get_num_threads() == 1
    assert set(used) == {1, 2}
    assert threads.settled is not None


@pytest.mark.usefixtures("measured_at_once")
def test_the_engine_is_measured_when_the_threads_are_known(
    task: SupervisedTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads, known = Threads(most=2, is_measured=True), []
    monkeypatch.setattr(EngineTrial, "took", lambda *_, **__: known.append(threads.settled))
    list(Population(task, [job(0), job(1)], settings_of(), threads=threads).run())
    assert known
    assert None not in known


def test_numbers_of_threads_differ_by_rounding_alone(task: SupervisedTask) -> None:
    scores = [
        train_serially(task, job(), settings_of(), threads=Threads.of(number, CPU)).score for number in (1, 2)
    ]
    assert scores[0] == pytest.approx(scores[1], rel=1e-9)
