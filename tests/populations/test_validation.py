"""Members that are validated together, batch by batch, come to the scores that they have alone."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from frostline.populations.engines import Engine
from frostline.populations.population import Population
from frostline.records import Evaluation, Status
from frostline.training.serial import train_serially
from frostline.training.supervised.supervised_task import SupervisedTask
from tests.populations.cases import CASES, Case, configuration_of, jobs_of, vectors
from tests.populations.test_population import assert_same, assert_same_as_alone, settings_of

BY_NAME = {case.name: case for case in CASES}
ENGINES = (Engine.SHARED, Engine.STACKED)
# Twenty examples, eight in a batch.
BATCHES_OF_VALIDATION = 3


class Fetched(torch.utils.data.Dataset[Any]):
    """A data set that counts how often its examples are fetched, and that cannot be read after ``most`` of them."""

    def __init__(self, data: torch.utils.data.TensorDataset, *, most: int | None = None) -> None:
        self._data = data
        self._most = most
        self.count = 0

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: int) -> Any:
        self.count += 1
        if self._most is not None and self.count > self._most:
            raise OSError("the disk is gone")
        return self._data[index]


class RootMeanSquare:
    """A metric that is no mean over batches: the root of the outputs' mean square."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.sum, self.number = torch.zeros((), dtype=torch.float64), 0

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        self.sum = self.sum + outputs.square().sum()
        self.number += outputs.numel()

    def compute(self) -> Tensor:
        return (self.sum / self.number).sqrt()


class DrawsInTheHead(nn.Module):
    """Draws whenever it is run, as the layers of a Bayesian network do."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(self.layers(x), 0.3, training=True)


def trained(
    task: SupervisedTask, *, size: int, layers: int = 2, engine: Engine = Engine.SHARED
) -> list[Evaluation]:
    jobs = jobs_of([configuration_of(number) for number in range(size)], layers=layers)
    evaluations = list(Population(task, jobs, settings_of(num_validations=2), engine=engine).run())
    return sorted(evaluations, key=lambda evaluation: evaluation.number)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("size", [2, 5])
def test_a_validation_set_is_fetched_once_for_all(size: int, engine: Engine) -> None:
    validation = Fetched(vectors(1))
    task = BY_NAME["mlp"].task(validation_data=validation)
    # Two to find out whether sharing is possible.
    before = 16
    evaluations = trained(task, size=size, engine=engine)
    assert all(len(each.curve) == 2 for each in evaluations)
    assert validation.count == before + 2 * len(validation)


def test_scores_of_metrics_are_gathered_for_each_member() -> None:
    task = BY_NAME["mlp"].task(score_function=RootMeanSquare())
    jobs = jobs_of([configuration_of(number) for number in range(4)], layers=2)
    evaluations = assert_same_as_alone(task, jobs)
    assert len({each.score for each in evaluations}) == 4


def test_what_models_draw_in_evaluation_depends_on_the_batch_alone() -> None:
    case = Case(name="draws", model=DrawsInTheHead, data=vectors, loss=nn.functional.cross_entropy, layers=(3,))
    jobs = jobs_of([configuration_of(number) for number in range(3)], layers=3)
    evaluations = assert_same_as_alone(case.task(), jobs)
    assert len({each.score for each in evaluations}) == 3


@pytest.mark.parametrize("samples", [20, 22, 10, 7])
def test_measured_statistics_are_each_members_own(samples: int) -> None:
    # 22 and 10 samples are no whole number of batches of 4.
    jobs = jobs_of([configuration_of(number) for number in range(3)], layers=3, samples=samples)
    task = BY_NAME["resnet"].task()
    assert task.full_samples > samples
    evaluations = assert_same_as_alone(task, jobs, settings_of(statistics="batches", horizon="full"))
    by_running = assert_same_as_alone(task, jobs, settings_of(statistics="running", horizon="full"))
    assert all(one.score != other.score for one, other in zip(evaluations, by_running, strict=True))


def test_a_member_whose_validation_fails_fails_alone() -> None:
    def score(outputs: Tensor, targets: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        # In the second batch of its validation, and of no other member's.
        if calls == 4 + 2:
            raise ValueError("no such score")
        return nn.functional.cross_entropy(outputs, targets)

    calls = -1_000_000  # while it is found out whether sharing is possible
    task = BY_NAME["mlp"].task(score_function=score)
    jobs = jobs_of([configuration_of(number) for number in range(4)], layers=2)
    population = Population(task, jobs, settings_of(num_validations=1), engine=Engine.SHARED)
    calls = 0
    evaluations = sorted(population.run(), key=lambda evaluation: evaluation.number)
    assert [each.status for each in evaluations] == [
        Status.FINISHED,
        Status.FAILED,
        Status.FINISHED,
        Status.FINISHED,
    ]
    assert "no such score" in str(evaluations[1].reason)
    calls = -1_000_000
    for evaluation, job in zip(evaluations, jobs, strict=True):
        if evaluation.status is Status.FINISHED:
            assert_same(evaluation, train_serially(task, job, settings_of(num_validations=1)))


def test_validation_data_that_cannot_be_read_fail_all_who_wait_for_them() -> None:
    task = BY_NAME["mlp"].task(validation_data=Fetched(vectors(1), most=16 + 10))
    evaluations = trained(task, size=3)
    assert [each.status for each in evaluations] == [Status.FAILED] * 3
    assert all(re.search("the disk is gone", str(each.reason)) for each in evaluations)


def test_a_score_of_ones_own_is_asked_for_each_member() -> None:
    class Doubled(SupervisedTask):
        def score(self, model: nn.Module, batches: Iterable[Any]) -> float:
            return 2 * super().score(model, batches)

    plain = BY_NAME["mlp"].task()
    fields = {name: getattr(plain, name) for name in plain.__dataclass_fields__}
    evaluations = trained(Doubled(**fields), size=2)
    expected = trained(plain, size=2)
    assert [each.score for each in evaluations] == pytest.approx([2 * (each.score or 0) for each in expected])
