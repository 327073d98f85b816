"""The number of threads is chosen by the means of the first steps, and again when these become slow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle, repeat

import pytest

from frostline.training.machine.thread_trial import ThreadTrial


def settled(trial: ThreadTrial, seconds: Callable[[int], float], *, work: float = 1.0) -> list[int]:
    """Make steps until a number is chosen; return how many threads each had."""
    used = []
    while not trial.is_settled:
        used.append(trial.number)
        trial.took(seconds(trial.number), work=work)
        assert len(used) < 1000
    return used


def measures_again(trial: ThreadTrial, seconds: float, *, within: int) -> int | None:
    """Make steps as long as that; return after how many it measures again, or None."""
    for step in range(within):
        trial.took(seconds)
        if not trial.is_settled:
            return step + 1
    return None


@pytest.mark.parametrize(
    ("milliseconds", "chosen"),
    [
        ({2: 20, 1: 10}, 1),
        ({2: 10, 1: 19}, 2),
        ({16: 40, 8: 20, 4: 15, 2: 25, 1: 50}, 4),
        ({6: 10, 3: 10.5, 1: 20}, 3),
        ({4: 100, 2: 100, 1: 100}, 1),
    ],
)
def test_the_fastest_is_chosen(milliseconds: dict[int, float], chosen: int) -> None:
    trial = ThreadTrial(max(milliseconds))
    settled(trial, lambda number: 1e-3 * milliseconds[number])
    assert trial.number == chosen


def test_more_threads_that_gain_next_to_nothing_are_left_to_others() -> None:
    trial = ThreadTrial(2)
    settled(trial, lambda number: 0.020 if number == 2 else 0.0215)
    assert trial.number == 1
    # Not a tenth at each of several halvings: together that would be much.
    trial = ThreadTrial(8)
    settled(trial, lambda number: {8: 0.0200, 4: 0.0215, 2: 0.0230, 1: 0.0250}[number])
    assert trial.number == 4


def test_a_large_model_makes_no_step_on_few_threads() -> None:
    trial = ThreadTrial(16)
    assert set(settled(trial, lambda number: 16 / number)) == {16, 8}
    assert trial.number == 16


def test_of_long_steps_one_is_enough() -> None:
    assert settled(ThreadTrial(2), lambda number: 2.0 / number) == [2, 2, 1, 1]


def test_means_count_and_not_the_best_steps() -> None:
    """Beside a busy process most steps on two threads are fast, and a few wait."""
    waits: Iterator[float] = cycle([0.0005] * 9 + [0.016])
    trial = ThreadTrial(2)
    settled(trial, lambda number: next(waits) if number == 2 else 0.0009)
    assert trial.number == 1


def test_the_first_step_of_each_number_is_warm_up() -> None:
    seconds = iter([9.0, 0.01, 0.01, 0.01, 9.0, 0.02, 0.02, 0.02])
    trial = ThreadTrial(2)
    assert len(settled(trial, lambda _: next(seconds))) == 8
    assert trial.number == 2
    assert trial.why == "10.00 ms on 2, 20.00 ms on 1"


def test_what_a_step_does_counts() -> None:
    """As members end, steps become shorter: on as few threads that is no gain."""
    work = iter([*repeat(4, 5), *repeat(1, 20)])
    trial = ThreadTrial(2)
    while not trial.is_settled:
        members = next(work)
        trial.took(0.010 * members / (1 if trial.number == 2 else 0.6), work=members)
    assert trial.number == 2


def test_steps_that_have_become_slow_are_measured_again() -> None:
    trial = ThreadTrial(2)
    settled(trial, lambda number: 0.02 / number)
    assert trial.number == 2
    assert measures_again(trial, 0.011, within=200) is None, "nothing has changed"
    assert measures_again(trial, 0.1, within=40) is not None
    assert trial.number == 2
    settled(trial, lambda number: 0.1 if number == 2 else 0.02)
    assert trial.number == 1


def test_a_few_slow_steps_change_nothing() -> None:
    trial = ThreadTrial(2)
    settled(trial, lambda number: 0.02 / number)
    for _ in range(20):
        assert measures_again(trial, 0.1, within=2) is None
        assert measures_again(trial, 0.01, within=10) is None


def test_a_number_is_measured_again_after_a_while_and_seldom() -> None:
    """When a neighbour has gone, nothing else shows it."""
    trial = ThreadTrial(2)
    settled(trial, lambda number: 0.04 if number == 2 else 0.02)
    assert trial.number == 1
    steps = measures_again(trial, 0.02, within=2000)
    assert steps is not None
    assert 10 <= 0.02 * steps <= 11
    settled(trial, lambda number: 0.02 / number)
    assert trial.number == 2
    # What takes long to measure is measured more seldom still.
    slow = ThreadTrial(2)
    num_steps = len(settled(slow, lambda _: 1.0))
    assert measures_again(slow, 1.0, within=1000) == 30 * num_steps


def test_one_thread_is_no_choice() -> None:
    trial = ThreadTrial(1)
    assert trial.is_settled
    assert measures_again(trial, 5.0, within=100) is None
    assert trial.number == 1
