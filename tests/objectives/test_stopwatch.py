"""What lies around the steps of a training is told from the steps by the clock."""

from __future__ import annotations

import pytest

from frostline.objectives import stopwatch
from frostline.objectives.stopwatch import Stopwatch


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that it is."""
    now = [0.0]
    monkeypatch.setattr(stopwatch.time, "perf_counter", lambda: now[0])
    return now


def run(clock: list[float], *, num_steps: int, loading: float = 5.0, first_step: float = 2.0) -> Stopwatch:
    """Training by steps of eight samples, each of which takes half a second but the first."""
    watch = Stopwatch()
    clock[0] += loading
    for step in range(num_steps):
        clock[0] += first_step if step == 0 else 0.5
        watch.stepped(8 * (step + 1))
    return watch


def test_loading_the_first_step_and_the_validation_are_no_part_of_the_pace(clock: list[float]) -> None:
    watch = run(clock, num_steps=11)
    clock[0] += 3.0
    # Of the first step what the others take is their pace.
    assert watch.fixed_seconds(clock[0], 88) == pytest.approx(5.0 + (2.0 - 0.5) + 3.0)


@pytest.mark.parametrize("num_steps", [0, 1])
def test_without_two_steps_nothing_is_known(clock: list[float], num_steps: int) -> None:
    watch = run(clock, num_steps=num_steps)
    assert watch.fixed_seconds(clock[0], 8 * num_steps) == 0.0


def test_a_training_that_goes_on_is_judged_by_its_own_steps(clock: list[float]) -> None:
    watch = Stopwatch()
    for step in range(4):
        clock[0] += 1.0
        watch.stepped(1000 + 10 * (step + 1))
    assert watch.fixed_seconds(6.0, 40) == pytest.approx(2.0)
    # A first step that was faster than the others is no reason for less than nothing.
    assert watch.fixed_seconds(3.5, 40) == 0.0
