"""Costs that do not rise with the layers are named; those of the built-in tasks rise."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from frostline.costs.cost_monotonicity import cost_violations, rise_words
from frostline.costs.measurement import measure_steps
from frostline.costs.step_cost import Memory, Seconds, StepCost, StepSeconds
from frostline.tasks.loading import load_task


def cost(layers: int, *, milliseconds: float | None = None, spread: float = 1.0) -> StepCost:
    seconds = None
    if milliseconds is not None:
        part = Seconds(milliseconds / 1e3, spread / 1e3)
        seconds = StepSeconds(forward=part, backward=part, optimizer=part, whole=part)
    return StepCost(
        trainable_layers=layers, num_layers=9, batch_size=8, trainable_parameters=100 * layers,
        memory=Memory(parameters=1, gradients=1, optimizer_state=1, activations=1, peak=2**20 * layers),
        forward_flops=500, backward_flops=1000 * layers, seconds=seconds,
    )  # fmt: skip


def test_costs_that_rise_are_no_violation_in_whatever_order_they_come() -> None:
    assert cost_violations([cost(3), cost(1), cost(9)]) == ()
    assert cost_violations([]) == ()


def test_each_cost_that_falls_is_named() -> None:
    memory = replace(cost(2).memory, peak=2**19)
    assert cost_violations([cost(1), replace(cost(2), memory=memory)]) == (
        "Peak bytes fall from 1 to 2 trained layers, batch size 8: by 512 KiB from 1 MiB.",
    )
    assert cost_violations([cost(1), replace(cost(2), backward_flops=0)]) == (
        "FLOPs fall from 1 to 2 trained layers, batch size 8: by 1,000 from 1,500.",
    )


def test_layers_that_cost_nothing_more_are_named_too() -> None:
    assert cost_violations([cost(8), replace(cost(8), trainable_layers=9)]) == (
        "9 trained layers cost what 8 cost, batch size 8: one of the two is enough.",
    )
    assert cost_violations([cost(8), replace(cost(9), backward_flops=cost(8).backward_flops)]) == ()


def test_of_costs_that_stay_it_is_not_said_that_they_rise() -> None:
    assert rise_words([cost(9), cost(1)]) == "Every cost rises with the number of trained layers."
    assert rise_words([cost(1), cost(2), replace(cost(3), memory=cost(2).memory)]) == (
        "No cost falls with the number of trained layers, and one rises each time; not always: Peak bytes."
    )
    nothing = "Nothing was compared: that takes two numbers of trained layers."
    assert rise_words([cost(2), replace(cost(2), batch_size=16)]) == nothing


def test_seconds_may_fall_within_their_spread() -> None:
    assert cost_violations([cost(1, milliseconds=10, spread=0.1), cost(2, milliseconds=9.2, spread=1)]) == ()
    assert cost_violations([cost(1, milliseconds=10, spread=1), cost(2, milliseconds=9.2, spread=0.1)]) == ()
    (sentence,) = cost_violations([cost(1, milliseconds=10), cost(2, milliseconds=8.5)])
    assert (
        sentence
        == "Seconds fall from 1 to 2 trained layers, batch size 8: from 10 to 8.5 ms, beyond their spread."
    )


def test_batch_sizes_are_not_compared_nor_predictions_with_measurements() -> None:
    assert cost_violations([cost(2), replace(cost(1), batch_size=16, forward_flops=10**9)]) == ()
    assert cost_violations([cost(1), replace(cost(2, milliseconds=1), forward_flops=0, backward_flops=0)]) == ()


def counted(name: str, options: dict[str, object]) -> list[StepCost]:
    """The costs without their seconds, which are the machine's."""
    rows = measure_steps(
        load_task(name, options), batch_sizes=[4], device=torch.device("cpu"), warm_up=0, repetitions=1
    )
    costs = [row for row in rows if isinstance(row, StepCost)]
    return [replace(each, seconds=None) for each in costs]


@pytest.mark.parametrize("name", ["digits-mlp", "digits-resnet", "python-source-gpt"])
def test_the_costs_of_the_built_in_tasks_rise_with_every_layer(name: str) -> None:
    costs = counted(name, {})
    assert len(costs) == costs[0].num_layers >= 8
    assert cost_violations(costs) == ()
