"""What a model costs whoever uses it, against what its shapes say by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from frostline.costs import model_cost
from frostline.costs.model_cost import ModelMeter
from frostline.errors import OptionError
from frostline.records import Configuration
from frostline.training.machine.devices import DevicePlan
from tests import wide_task
from tests.wide_task import num_biases, num_weights

PLAN = DevicePlan(device=torch.device("cpu"))


def of_width(width: int, number: int = 0) -> Configuration:
    return Configuration(number=number, hyperparameters={"width": width, "learning_rate": 0.01})


@pytest.mark.parametrize("width", [3, 40])
def test_bytes_are_those_of_all_weights_and_flops_those_of_one_example(width: int) -> None:
    state = torch.get_rng_state()
    of_bytes, of_flops = (ModelMeter(wide_task.task, name, device_plan=PLAN) for name in ("bytes", "flops"))
    assert of_bytes(of_width(width)) == 4 * (num_weights(width) + num_biases(width))
    # A multiplication and an addition are two.
    assert of_flops(of_width(width)) == 2 * num_weights(width)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("norm_first", [True, False])
def test_flops_count_what_torch_fuses_where_nothing_is_trained(norm_first: bool) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 20, batch_first=True, norm_first=norm_first)
    task = wide_task.make()
    object.__setattr__(
        task, "model", lambda _: InWords(nn.TransformerEncoder(layer, 3, enable_nested_tensor=False))
    )
    words, width, inner = 4, 8, 20
    projections, attention, maps = 8 * width * width, 4 * words * width, 4 * width * inner
    head = 2 * width * 2
    of_flops = ModelMeter(task, "flops", device_plan=PLAN)
    assert of_flops(of_width(1)) == words * (2 * width + 3 * (projections + attention + maps)) + head


class InWords(nn.Module):
    """Takes each number of a row for a word."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.embedding, self.layers, self.head = nn.Linear(1, 8), layers, nn.Linear(8, 2)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.head(self.layers(self.embedding(rows.unsqueeze(-1))).mean(1))
        return outputs


def test_a_tied_weight_counts_once_and_buffers_count() -> None:
    def tied(_: Configuration) -> nn.Module:
        first = nn.Sequential(nn.Linear(4, 4, bias=False), nn.BatchNorm1d(4))
        second = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Tanh())
        second[0].weight = first[0].weight
        return nn.Sequential(first, second, nn.Linear(4, 2))

    task = wide_task.make()
    object.__setattr__(task, "model", tied)
    # A number of batches of 8 bytes, four each of mean, variance, scale and shift, and the last layer's ten.
    of_bytes = ModelMeter(task, "bytes", device_plan=PLAN)
    assert of_bytes(of_width(1)) == 4 * (16 + 16 + 10) + 8


def test_seconds_are_measured_once_for_each_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []
    task = wide_task.make()
    score = type(task).score

    def counted(self: Any, model: nn.Module, batches: Any) -> float:
        passes.append(model[0][0].out_features)
        assert not torch.is_grad_enabled()
        assert not model.training
        return score(self, model, batches)

    monkeypatch.setattr(type(task), "score", counted)
    meter = ModelMeter(task, "seconds", device_plan=PLAN)
    first = meter(of_width(64, number=5))
    assert first is not None
    assert 0 < first < 1
    assert meter(of_width(64, number=5)) == first
    each = model_cost._WARM_UP + model_cost._REPETITIONS
    assert passes == [16] * each + [64] * each


def test_a_model_that_cannot_be_built_costs_nothing_known() -> None:
    meter = ModelMeter(wide_task.task, "bytes", device_plan=PLAN)
    assert meter(Configuration(number=1, hyperparameters={"width": -3, "learning_rate": 0.01})) is None


def test_a_model_that_needs_values_is_refused_with_what_to_use() -> None:
    class Looks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 2)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.linear(inputs) * float(inputs.sum().item() > 0)

    task = wide_task.make()
    object.__setattr__(task, "model", lambda _: Looks())
    with pytest.raises(OptionError) as caught:
        ModelMeter(task, "flops", device_plan=PLAN)
    assert (
        "against is 'flops', but the model of wide does not tell it without running: use bytes or seconds"
        in str(caught.value)
    )
    assert "\n" not in str(caught.value)
