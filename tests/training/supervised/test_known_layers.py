"""The layers of models that are alike are found once, and those of others anew."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from frostline.errors import ModelError
from tests.training.cases import configured, regression_task


class Ordered(nn.Module):
    """Runs its layers in an order that only a plain attribute tells, and counts how often it is run."""

    runs = 0

    def __init__(self, order: Sequence[int] = (0, 1, 2)) -> None:
        super().__init__()
        self.order = order
        self.layers = nn.ModuleList(nn.Linear(5, 5) for _ in range(3))
        self.head = nn.Linear(5, 1)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        type(self).runs += 1
        for index in self.order:
            x = torch.relu(self.layers[index](x))
        result: Tensor = self.head(x)
        return result


def tied() -> nn.Module:
    model = Ordered()
    model.layers[2].weight = model.layers[0].weight
    return model


def partly_frozen() -> nn.Module:
    model = Ordered()
    model.head.requires_grad_(False)
    return model


def test_layers_of_models_that_are_alike_are_found_once() -> None:
    task = regression_task(model=lambda _: Ordered())
    Ordered.runs = 0
    first, second = (task.split(task.build_model(configured(number))) for number in range(2))
    assert Ordered.runs == 1
    assert first == second


@pytest.mark.parametrize(
    "other", [lambda: Ordered((2, 1, 0)), tied, partly_frozen], ids=["order", "ties", "what is trained"]
)
def test_those_of_another_model_are_found_anew(other: Callable[[], nn.Module]) -> None:
    task = regression_task()
    task.split(Ordered())
    assert task.split(other()) == regression_task().split(other()) != task.split(Ordered())


def test_a_model_that_is_not_whole_yet_is_refused_as_ever() -> None:
    with pytest.raises(ModelError, match="lazy"):
        regression_task().split(nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 1)))
