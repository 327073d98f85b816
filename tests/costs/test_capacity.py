"""What is said to fit fits, and one more does not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frostline.costs.capacity import Capacity, largest_fitting
from frostline.costs.step_cost import Memory, StepCost
from frostline.errors import OptionError, PredictionError
from frostline.records import Fidelity
from frostline.tasks.builtin.digits_resnet import digits_resnet

MEBIBYTE = 2**20


@given(
    fixed=st.integers(0, 10_000),
    slope=st.integers(1, 1_000),
    bend=st.integers(1, 200),
    more=st.integers(0, 1_000),
    memory=st.integers(0, 300_000),
)
def test_the_largest_that_fits_is_found(fixed: int, slope: int, bend: int, more: int, memory: int) -> None:
    def required(n: int) -> int:
        return fixed + slope * n + more * max(0, n - bend)

    found = largest_fitting(required, memory)
    assert found == 0 or required(found) <= memory
    assert required(found + 1) > memory


@given(
    fixed=st.integers(0, 10_000),
    slope=st.integers(1, 1_000),
    block=st.integers(1, 100_000),
    memory=st.integers(0, 10_000_000),
)
def test_the_largest_that_fits_is_found_where_memory_is_handed_out_in_blocks(
    fixed: int, slope: int, block: int, memory: int
) -> None:
    looks: list[int] = []

    def required(n: int) -> int:
        looks.append(n)
        return fixed + -(-slope * n // block) * block

    found = largest_fitting(required, memory)
    assert len(looks) <= 45
    assert found == 0 or required(found) <= memory
    assert found == 2**20 - 1 or required(found + 1) > memory


def test_few_looks_are_needed_along_a_line() -> None:
    looks: list[int] = []

    def required(n: int) -> int:
        looks.append(n)
        return 1000 + 37 * n

    assert largest_fitting(required, 10**6) == (10**6 - 1000) // 37
    assert len(set(looks)) <= 4


def test_a_cost_that_does_not_grow_ends_the_search() -> None:
    assert largest_fitting(lambda _: 5, 10) == 2**20 - 1


def predicted(layers: int, batch_size: int | None) -> StepCost:
    """Ten layers of 1 MiB each, AdamW, 1 MiB of activations for every trained layer and example."""
    batch = batch_size or 4
    memory = Memory(
        parameters=10 * MEBIBYTE,
        gradients=layers * MEBIBYTE,
        optimizer_state=2 * layers * MEBIBYTE,
        activations=layers * batch * MEBIBYTE,
        peak=(10 + 3 * layers + layers * batch) * MEBIBYTE,
    )
    return StepCost(
        trainable_layers=layers,
        num_layers=10,
        batch_size=batch,
        trainable_parameters=layers * MEBIBYTE // 4,
        memory=memory,
        forward_flops=1,
        backward_flops=1,
    )


def test_batches_and_populations_by_hand() -> None:
    capacity = Capacity(digits_resnet(), margin=0.0, predict=predicted)
    # One layer: 10 + 3 MiB, and 1 for each example.
    fit = capacity.fit(1, 50 * MEBIBYTE)
    assert fit.largest_batch == 37
    # Together: 9 frozen and 4 of a step once, and 4 for each: weights, gradients, two moments.
    assert fit.population == (50 - 13) // 4
    assert capacity.fit(10, 50 * MEBIBYTE).largest_batch == 1
    assert capacity.fit(10, 49 * MEBIBYTE).largest_batch == 0
    assert capacity.fit(10, 49 * MEBIBYTE).population == 0


def test_the_best_weights_that_a_training_keeps_lie_in_host_memory() -> None:
    task = replace(digits_resnet(), keep_best=True)
    last, kept = (Capacity(each, margin=0.0, predict=predicted) for each in (digits_resnet(), task))
    assert kept.required(4) - last.required(4) == 4 * MEBIBYTE
    assert kept.together(4, 3) - last.together(4, 3) == 3 * 4 * MEBIBYTE
    assert kept.fit(10, 60 * MEBIBYTE).largest_batch == 1
    assert kept.fit(10, 59 * MEBIBYTE).largest_batch == 0
    on_a_card = Capacity(task, margin=0.0, predict=predicted, device="cuda")
    assert on_a_card.required(4) == last.required(4)


def test_the_margin_is_kept_free() -> None:
    roomy, tight = (Capacity(digits_resnet(), margin=margin, predict=predicted) for margin in (0.0, 0.5))
    assert tight.required(1) == 1.5 * roomy.required(1)
    assert tight.fit(1, 51 * MEBIBYTE).largest_batch == 34 - 13
    with pytest.raises(OptionError, match=r"margin is -0.1"):
        Capacity(digits_resnet(), margin=-0.1)


def test_rungs_are_served_by_the_devices_that_hold_them() -> None:
    capacity = Capacity(digits_resnet(), margin=0.0, predict=predicted)
    rungs = [Fidelity(trainable_layers=layers, samples=100) for layers in (1, 5, 10)]
    served = capacity.rungs(rungs, [17 * MEBIBYTE, 60 * MEBIBYTE, 160 * MEBIBYTE])
    # All layers are trained by one at a time.
    assert [rung.populations for rung in served] == [(1, 11, 36), (0, 1, 6), (0, 0, 1)]
    assert [rung.required for rung in served] == [17 * MEBIBYTE, 45 * MEBIBYTE, 80 * MEBIBYTE]


def test_a_real_task_needs_less_with_fewer_layers_trained() -> None:
    capacity = Capacity(digits_resnet())
    memory = capacity.required(10)
    fits = [capacity.fit(layers, memory) for layers in (1, 5, 10)]
    assert fits[-1].population == 1
    assert fits[0].largest_batch > fits[1].largest_batch > fits[2].largest_batch >= 1
    assert fits[0].population > fits[1].population > 1


def test_a_model_that_refuses_batches_of_one_has_a_largest_batch() -> None:
    def refusing(layers: int, batch_size: int | None) -> StepCost:
        if batch_size == 1:
            raise PredictionError("more than one value per channel")
        return predicted(layers, batch_size)

    capacity = Capacity(digits_resnet(), margin=0.0, predict=refusing)
    assert capacity.largest_batch(1, 50 * MEBIBYTE) == 37
    assert capacity.largest_batch(1, 14 * MEBIBYTE) == 0


def test_a_second_device_needs_few_looks_more() -> None:
    looks: list[int | None] = []

    def counted(layers: int, batch_size: int | None) -> StepCost:
        looks.append(batch_size)
        return predicted(layers, batch_size)

    capacity = Capacity(digits_resnet(), predict=counted)
    capacity.fit(1, 1000 * MEBIBYTE)
    before = len(looks)
    capacity.fit(1, 9000 * MEBIBYTE)
    assert len(looks) - before <= 2
    assert len(set(looks)) == len(looks)
