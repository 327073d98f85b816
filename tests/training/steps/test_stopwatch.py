"""What lies around the steps of a training is told from the steps by the clock."""

from __future__ import annotations

import pytest

from frostline.training.steps.stopwatch import Stopwatch


def run(*, num_steps: int) -> Stopwatch:
    """Training that begins after five seconds, by steps of eight samples of half a second; the first takes two."""
    watch = Stopwatch()
    for step in range(num_steps):
        watch.stepped(5.0 + 2.0 + 0.5 * step, 8 * (step + 1))
    return watch


def test_loading_the_first_step_and_the_validation_are_no_part_of_the_pace() -> None:
    seconds = 5.0 + 2.0 + 10 * 0.5 + 3.0
    # Of the first step what the others take is their pace.
    assert run(num_steps=11).fixed_seconds(seconds, 88) == pytest.approx(5.0 + (2.0 - 0.5) + 3.0)


@pytest.mark.parametrize("num_steps", [0, 1])
def test_without_two_steps_nothing_is_known(num_steps: int) -> None:
    assert run(num_steps=num_steps).fixed_seconds(9.0, 8 * num_steps) == 0.0


def test_a_training_that_goes_on_is_judged_by_its_own_steps() -> None:
    watch = Stopwatch()
    for step in range(4):
        watch.stepped(1.0 + step, 1000 + 10 * (step + 1))
    assert watch.fixed_seconds(6.0, 40) == pytest.approx(2.0)
    # A first step that was faster than the others is no reason for less than nothing.
    assert watch.fixed_seconds(3.5, 40) == 0.0
