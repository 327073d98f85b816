"""What an objective was given beside its trial: a study that goes on with something else says so."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import frostline
from frostline.objectives.given_arguments import arguments_of, other_arguments

POINTS = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
SCALE = 1


def objective(trial: frostline.Trial, factor: float = 1.0, *, options: Any = None) -> float:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1))
    trial.freeze(model)
    optimizer = torch.optim.SGD(trial.parameters, lr=trial.suggest_float("rate", 1e-3, 0.1))
    for batch in trial.batches([POINTS]):
        model(batch).square().mean().backward()
        optimizer.step()
    return SCALE * factor * model(POINTS).square().mean().item()


class Owner:
    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, trial: frostline.Trial) -> float:
        return objective(trial, self.factor)

    def method(self, trial: frostline.Trial) -> float:
        return objective(trial, self.factor)


def enclosed(factor: float) -> Callable[[frostline.Trial], float]:
    return lambda trial: objective(trial, factor)


def by_default(factor: float) -> Callable[[frostline.Trial], float]:
    def own(trial: frostline.Trial, factor: float = factor) -> float:
        return objective(trial, factor)

    return own


@pytest.mark.parametrize(
    ("given", "name"),
    [
        pytest.param(lambda factor: partial(objective, factor=factor), "factor", id="by name"),
        pytest.param(lambda factor: partial(lambda factor, trial: 0.0, factor), "factor", id="by place"),
        pytest.param(lambda factor: Owner(factor), "factor", id="an object"),
        pytest.param(lambda factor: Owner(factor).method, "factor", id="a method"),
        pytest.param(enclosed, "factor", id="a function around it"),
        pytest.param(by_default, "factor", id="a default"),
        pytest.param(
            lambda factor: partial(objective, options=argparse.Namespace(data=Path("a"), factors=[factor])),
            "options",
            id="the words of a command",
        ),
    ],
)
def test_another_value_is_named(given: Callable[[float], Any], name: str) -> None:
    first, again, other = (arguments_of(given(factor)) for factor in (1.0, 1.0, 2.0))
    assert (other_arguments(first, again), other_arguments(first, other)) == ([], [name])


def test_a_name_of_the_module_counts_and_what_is_not_plain_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = arguments_of(partial(objective, options=POINTS))
    assert "options" not in begun
    assert "secret" not in arguments_of(partial(objective, options="secret"))
    monkeypatch.setitem(globals(), "SCALE", 2)
    assert other_arguments(begun, arguments_of(objective)) == ["SCALE"]
    assert arguments_of(print) == ""
    around: list[Any] = [1]
    around.append(around)
    for data in (range(5), [*range(5_000)], "text" * 5_000, [[0] * 100] * 100, around, [object()]):
        assert "options" not in arguments_of(partial(objective, options=data))


def test_a_study_that_goes_on_with_another_value_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)

    def search(factor: float) -> float:
        options: dict[str, Any] = {"configurations": 1, "search": frostline.FullFidelity}
        return frostline.tune(
            partial(objective, factor=factor), samples=80, storage="sqlite:///own.db", **options
        ).score

    score = search(1.0)
    assert search(1.0) == score
    assert not caplog.messages
    assert search(2.0) == score
    assert "was begun by an objective with another value of factor, whose scores it keeps" in caplog.text
    caplog.clear()
    assert search(1.0) == score
    assert not caplog.messages
