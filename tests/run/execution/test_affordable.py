"""A time that does not pay for one training is refused within its first steps; one that nearly does, is not."""

from __future__ import annotations

from pathlib import Path
from time import sleep

import pytest
import torch

import frostline
from frostline.errors import BudgetTooSmallError
from frostline.records import Progress
from frostline.run.execution import affordable
from frostline.run.execution.affordable import AffordableTraining
from frostline.search.budgets.budget import Budget
from tests.objectives.test_objective import LOADER, loss_of, network, step


def refused_after(
    seconds: float, *, first: float | None = None, budget: str, clock: pytest.MonkeyPatch
) -> int | None:
    """Return after how many steps of so many seconds a training of a hundred is refused, None if it is not."""
    now = 0.0
    clock.setattr(affordable.time, "perf_counter", lambda: now)
    watch = AffordableTraining(Budget.parse(budget), full_samples=100, rung=2)
    for num_steps in range(100):
        progress = Progress(rung=2, members=1, engine=None, started=0, samples=num_steps, budget=100)
        try:
            watch.progressed(progress)
        except BudgetTooSmallError:
            return num_steps
        now += seconds if num_steps or first is None else first
    return None


def test_seconds_of_steps_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused_after(1.0, budget="60s", clock=monkeypatch) == 6


def test_what_the_budget_nearly_pays_for_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused_after(1.0, budget="70s", clock=monkeypatch) is None


def test_a_slow_first_step_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused_after(0.1, first=30, budget="60s", clock=monkeypatch) is None


def test_a_time_shorter_than_a_step_is_refused_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused_after(1.0, budget="0.5s", clock=monkeypatch) == 1


def test_one_that_ends_is_not_kept_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = AffordableTraining(Budget.parse("0.5s"), full_samples=1, rung=0)
    now = 0.0
    monkeypatch.setattr(affordable.time, "perf_counter", lambda: now)
    for samples in (0, 1):
        watch.progressed(Progress(rung=0, members=1, engine=None, started=0, samples=samples, budget=1))
        now += 1.0


def test_an_objective_is_left_at_once_and_a_larger_budget_trains_it(tmp_path: Path) -> None:
    num_steps = 0

    def objective(trial: frostline.Trial) -> float:
        nonlocal num_steps
        model = network()
        trial.freeze(model)
        optimizer = torch.optim.SGD(trial.parameters, lr=trial.suggest_float("rate", 0.001, 0.1, log=True))
        for batch in trial.batches(LOADER):
            step(model, optimizer, batch)
            num_steps += 1
            sleep(0.01)
        return loss_of(model)

    place = {"storage": f"sqlite:///{tmp_path}/s.db", "runs": tmp_path, "initial": {"rate": 0.01}}
    with pytest.raises(
        BudgetTooSmallError, match=r"^a budget of 0\.3 s does not pay for one full training, which takes"
    ):
        frostline.tune(objective, samples=800, budget="0.3s", **place)
    assert num_steps < 100
    result = frostline.tune(objective, samples=800, budget=2, **place)
    assert [one.cost.samples for one in result.history.evaluations()] == [800]
