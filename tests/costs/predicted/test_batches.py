"""Batches of any kind are predicted, counted by their examples, and grown as they really grow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from optuna.distributions import FloatDistribution
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from frostline.costs.measurement import measure_step
from frostline.costs.predicted.prediction import StepPredictor, forward_flops, predict_step
from frostline.search.spaces.space import SearchSpace
from frostline.training.supervised.supervised_task import SupervisedTask

Example = tuple[Tensor, Tensor]


class Rows(Dataset[Example]):
    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> Example:
        return torch.full((20,), float(index)), torch.tensor(index % 5)


def put_together(examples: list[Example]) -> Example:
    rows, labels = zip(*examples, strict=True)
    return torch.stack(rows), torch.stack(labels)


def two_views(examples: list[Example]) -> Example:
    rows, labels = put_together(examples)
    return torch.cat([rows, -rows]), labels


@dataclass
class Given:
    rows: Tensor


def in_a_dataclass(examples: list[Example]) -> tuple[Given, Tensor]:
    rows, labels = put_together(examples)
    return Given(rows), labels


def wider_the_more_there_are(examples: list[Example]) -> Example:
    rows, labels = put_together(examples)
    return rows[:, : 10 + len(rows) // 4], labels


class Model(nn.Module):
    """Reads each number of a row by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(1, 30), nn.ReLU(), nn.Linear(30, 5))

    def forward(self, given: Any) -> Tensor:
        rows = given.rows if isinstance(given, Given) else given
        outputs: Tensor = self.layers(rows.unsqueeze(-1)).mean(1)
        return outputs


def task_of(collate_fn: Callable[[list[Example]], Any]) -> SupervisedTask:
    return SupervisedTask(
        name="rows",
        model=lambda _: Model(),
        training_data=Rows(),
        validation_data=Rows(),
        loss_function=lambda outputs, labels: functional.cross_entropy(outputs[: len(labels)], labels),
        space=SearchSpace(distributions={"learning_rate": FloatDistribution(1e-4, 1e-1)}),
        full_samples=64,
        defaults={"learning_rate": 1e-3},
        batch_size=8,
        collate_fn=collate_fn,
        data_fingerprint="rows",
    )


@pytest.mark.parametrize("collate_fn", [two_views, in_a_dataclass, wider_the_more_there_are])
def test_a_batch_costs_what_it_really_does_at_every_size(collate_fn: Callable[..., Any]) -> None:
    task = task_of(collate_fn)
    predictor = StepPredictor(task)
    assert predictor.batch_size == 8
    for size in (None, 1, 2, 8, 40):
        predicted = predict_step(task, trainable_layers=2, batch_size=size)
        real = measure_step(
            task, trainable_layers=2, batch_size=size, device=torch.device("cpu"), warm_up=0, repetitions=1
        )
        assert predictor.cost(2, size) == predicted
        assert predicted.batch_size == real.batch_size == (size or 8)
        assert predicted.memory.activations == real.memory.activations
        assert (predicted.forward_flops, predicted.backward_flops) == (real.forward_flops, real.backward_flops)


def test_a_models_flops_are_those_of_one_example() -> None:
    # Two linear maps, of each of twenty numbers, in two views.
    assert forward_flops(task_of(two_views)) == 2 * 20 * 2 * (30 + 30 * 5)
