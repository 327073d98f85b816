"""Objectives whose models' costs count beside their scores: counted, or told as a second value."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import frostline
from frostline.errors import ObjectiveError
from frostline.records import Status

POINTS = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
TARGETS = POINTS.sum(1, keepdim=True).sin()
LOADER = DataLoader(TensorDataset(POINTS, TARGETS), 8)
FLOAT = 4


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def network(width: int) -> nn.Sequential:
    hidden = [nn.Sequential(nn.Linear(n, width), nn.Tanh()) for n in (4, width, width)]
    return nn.Sequential(*hidden, nn.Linear(width, 1))


def bytes_of(width: int) -> int:
    return FLOAT * sum(n * m + m for n, m in ((4, width), (width, width), (width, width), (width, 1)))


@torch.no_grad()
def loss_of(model: nn.Module) -> float:
    return nn.functional.mse_loss(model(POINTS), TARGETS).item()


def trained(trial: frostline.Trial, **freezing: Any) -> tuple[float, int]:
    width = trial.suggest_int("width", 4, 64, log=True)
    model = network(width)
    trial.freeze(model, **freezing)
    optimizer = torch.optim.SGD(trial.parameters, lr=trial.suggest_float("rate", 1e-3, 0.3, log=True))

    def step(inputs: Tensor, targets: Tensor) -> None:
        optimizer.zero_grad()
        nn.functional.mse_loss(model(inputs), targets).backward()
        optimizer.step()

    for inputs, targets in trial.batches(LOADER):
        step(inputs, targets)
    return loss_of(model), width


def tune(objective: Callable[[frostline.Trial], Any], **options: Any) -> frostline.TuneResult:
    defaults: dict[str, Any] = {"samples": 320, "configurations": 27, "study": "s", "storage": "sqlite:///s.db"}
    return frostline.tune(objective, **defaults | options)


@pytest.mark.parametrize("freezing", [{}, {"frozen_dtype": "bfloat16"}, {"frozen_placement": "stream"}])
def test_bytes_are_counted_however_frozen_layers_are_kept(freezing: dict[str, Any]) -> None:
    result = tune(lambda trial: trained(trial, **freezing)[0], against="bytes", configurations=9)
    widths = [configuration["width"] for configuration in result.history.configurations]
    for evaluation in result.history.evaluations():
        assert evaluation.model_cost == bytes_of(widths[evaluation.number])
    assert "bytes of the model" in f"{result!r}"


def test_the_front_is_kept_with_the_weights_of_every_member() -> None:
    result = tune(lambda trial: trained(trial)[0], against="bytes", seed=3)
    scores, costs = zip(*((member.score, member.cost) for member in result.front), strict=True)
    assert len(result.front) > 1
    assert [*scores] == sorted(scores)
    assert [*costs] == sorted(costs, reverse=True)
    assert result.models is not None
    for member in result.front:
        model = network(member.configuration["width"])
        result.models.load(member.configuration, model)
        assert loss_of(model) == pytest.approx(member.score, rel=1e-6)


def test_what_is_told_counts_and_a_study_keeps_what_it_was_begun_with() -> None:
    def objective(trial: frostline.Trial) -> tuple[float, float]:
        score, width = trained(trial)
        return score, width * 1e-3

    result = tune(objective, against="seconds", configurations=9)
    again = tune(objective, configurations=27)
    assert again.terms.against == "seconds"
    assert again.history.num_evaluations > result.history.num_evaluations
    for evaluation in again.history.evaluations():
        assert evaluation.model_cost == again.history.configurations[evaluation.number]["width"] * 1e-3
    assert "seconds of the model, as the objective told" in f"{again!r}"


def test_what_is_told_of_bytes_is_believed() -> None:
    result = tune(lambda trial: (trained(trial)[0], torch.tensor(7)), against="bytes", configurations=9)
    assert {evaluation.model_cost for evaluation in result.history.evaluations()} == {7.0}


def test_a_training_that_is_lost_has_a_cost_too() -> None:
    def objective(trial: frostline.Trial) -> float:
        score, width = trained(trial)
        return score if width > 8 else float("nan")

    result = tune(objective, against="bytes")
    lost = [each for each in result.history.evaluations() if each.status is Status.DIVERGED]
    assert lost
    assert all(each.model_cost is not None for each in lost)


@pytest.mark.parametrize(
    ("told", "says"),
    [
        (
            0.5,
            "returned 0.5, but the search is against flops, which only the objective knows: return the score and these",
        ),
        ((0.5, -1.0), "returned -1.0 for the flops of its model: return a number from 0 on"),
        ((0.5, float("inf")), "returned inf for the flops of its model"),
        ((0.5, "many"), "returned 'many' for the flops of its model"),
        ((0.5, 1.0, 2.0), re.escape("returned (0.5, 1.0, 2.0), but the search is against flops")),
    ],
)
def test_what_tells_no_cost_is_refused(told: object, says: str) -> None:
    def objective(trial: frostline.Trial) -> object:
        trained(trial)
        return told

    with pytest.raises(ObjectiveError, match=says):
        tune(objective, against="flops", configurations=9)


def test_a_second_value_without_a_search_for_it_is_refused() -> None:
    with pytest.raises(ObjectiveError, match="return the validation score, a number"):
        tune(lambda trial: (trained(trial)[0], 3.0), configurations=9)
