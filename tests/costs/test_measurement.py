"""Measured costs: bytes and FLOPs that can be worked out by hand, and steps that fail."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
import torch
from optuna.distributions import FloatDistribution
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import frostline
from frostline.costs.measurement import (
    FailedStep,
    checked_layers,
    measure_step,
    measure_steps,
    num_layers_of,
    own_batch_size,
)
from frostline.costs.predicted.prediction import predict_step
from frostline.costs.step_cost import StepCost
from frostline.errors import FidelityError, HyperparameterError, OptionError, PredictionError, TaskError
from frostline.layers.storages import storage_bytes

CPU = torch.device("cpu")
FLOAT = 4
INPUTS, WIDTH, CLASSES, BATCH = 8, 16, 4, 32


def mean_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.mse_loss(outputs, targets)


def linear_task(**changes: Any) -> frostline.SupervisedTask:
    """Three linear layers without bias: 8 -> 16 -> 16 -> 4."""

    def model(_configuration: frostline.Configuration) -> nn.Module:
        widths = (INPUTS, WIDTH, WIDTH, CLASSES)
        return nn.Sequential(*(nn.Linear(a, b, bias=False) for a, b in pairwise(widths)))

    data = TensorDataset(torch.randn(128, INPUTS), torch.randn(128, CLASSES))
    settings: dict[str, Any] = {
        "name": "linear",
        "model": model,
        "training_data": data,
        "validation_data": data,
        "loss_function": mean_loss,
        "space": frostline.SearchSpace(distributions={"learning_rate": FloatDistribution(1e-4, 1e-1)}),
        "defaults": {"learning_rate": 1e-3},
        "full_samples": 512,
        "batch_size": BATCH,
        "optimizer": torch.optim.SGD,
    }
    return frostline.SupervisedTask(**{**settings, **changes})


def measured(task: frostline.Task, layers: int, **options: Any) -> StepCost:
    return measure_step(task, trainable_layers=layers, device=CPU, warm_up=0, repetitions=2, **options)


PARAMETERS = INPUTS * WIDTH + WIDTH * WIDTH + WIDTH * CLASSES


def test_bytes_and_flops_are_those_worked_out_by_hand() -> None:
    cost = measured(linear_task(defaults={"learning_rate": 1e-3, "momentum": 0.9}), 2)
    trained = WIDTH * WIDTH + WIDTH * CLASSES
    assert (cost.trainable_layers, cost.num_layers, cost.batch_size) == (2, 3, BATCH)
    assert cost.trainable_parameters == trained
    assert cost.memory.parameters == FLOAT * PARAMETERS
    assert cost.memory.gradients == cost.memory.optimizer_state == FLOAT * trained
    # The inputs of the two trained layers, and the outputs for the loss; the targets are the batch's.
    assert cost.memory.activations == FLOAT * BATCH * (WIDTH + WIDTH + CLASSES)
    assert cost.forward_flops == 2 * BATCH * PARAMETERS
    # Gradients of both weights, and of what lies between them.
    assert cost.backward_flops == 2 * BATCH * (trained + WIDTH * CLASSES)


def test_sparse_gradients_are_measured_and_refused_to_be_predicted() -> None:
    def model(_: frostline.Configuration) -> nn.Module:
        return nn.Sequential(nn.EmbeddingBag(1000, WIDTH, sparse=True), nn.Linear(WIDTH, CLASSES, bias=False))

    data = TensorDataset(torch.arange(128 * 3).view(128, 3), torch.randn(128, CLASSES))
    task = linear_task(model=model, training_data=data, validation_data=data)
    cost = measured(task, 2)
    # Of each of three words its place, and its row.
    assert cost.memory.gradients == BATCH * 3 * (8 + FLOAT * WIDTH) + FLOAT * WIDTH * CLASSES
    with pytest.raises(PredictionError, match="how large its sparse gradients are depends on values"):
        predict_step(task, trainable_layers=2)


def test_the_peak_holds_what_is_there_throughout_and_the_step_on_top() -> None:
    batch = FLOAT * BATCH * (INPUTS + CLASSES)
    lowest, full = measured(linear_task(), 1).memory, measured(linear_task(), 3).memory
    assert lowest.peak >= lowest.parameters + batch + lowest.activations
    assert lowest.peak < full.peak
    assert full.peak < 2 * (full.parameters + full.gradients + full.activations + batch)


def test_optimizer_state_follows_the_optimizer() -> None:
    assert measured(linear_task(), 3).memory.optimizer_state == 0
    adam = measured(linear_task(optimizer=torch.optim.Adam), 3).memory
    # Two moments, and a counter of steps for each of the three weights.
    assert adam.optimizer_state == FLOAT * (2 * PARAMETERS + 3)


def test_the_parts_of_a_step_add_up_to_the_whole() -> None:
    seconds = measure_step(linear_task(), trainable_layers=3, device=CPU, warm_up=2, repetitions=1).seconds
    assert seconds is not None
    parts = seconds.forward.median + seconds.backward.median + seconds.optimizer.median
    assert parts == pytest.approx(seconds.whole.median, rel=1e-6)
    assert seconds.whole.spread == 0
    assert min(seconds.forward.median, seconds.backward.median, seconds.optimizer.median) > 0


def test_so_many_steps_are_made_as_were_asked_for() -> None:
    calls = []

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        calls.append(outputs.requires_grad)
        return mean_loss(outputs, targets)

    task = linear_task(loss_function=loss)
    measure_step(task, trainable_layers=1, device=CPU, warm_up=2, repetitions=3)
    # One each for bytes, the peak and FLOPs.
    assert len(calls) == 3 + 2 + 3


def test_a_shared_weight_counts_once() -> None:
    def tied(_configuration: frostline.Configuration) -> nn.Module:
        model = nn.Sequential(*(nn.Linear(INPUTS, INPUTS, bias=False) for _ in range(3)))
        model[2].weight = model[0].weight
        return model

    data = TensorDataset(torch.randn(64, INPUTS), torch.randn(64, INPUTS))
    task = linear_task(model=tied, training_data=data, validation_data=data)
    cost = measured(task, 3)
    assert cost.memory.parameters == cost.memory.gradients == FLOAT * 2 * INPUTS * INPUTS
    whole = torch.zeros(10)
    assert storage_bytes([whole, whole[:3], torch.zeros(2)], ignored=[whole[5:]]) == 2 * FLOAT


def test_streamed_parameters_weigh_nothing() -> None:
    plain = measured(linear_task(), 1).memory
    streamed = measured(linear_task(frozen_placement="stream"), 1).memory
    assert plain.parameters - streamed.parameters == FLOAT * (INPUTS * WIDTH + WIDTH * WIDTH)
    assert streamed.peak < plain.peak


def test_buffers_count_as_parameters() -> None:
    def normalised(_configuration: frostline.Configuration) -> nn.Module:
        return nn.Sequential(nn.Linear(INPUTS, CLASSES, bias=False), nn.BatchNorm1d(CLASSES))

    cost = measured(linear_task(model=normalised), 2)
    # Scale, shift, mean, variance, and a counter of eight bytes.
    assert cost.memory.parameters == FLOAT * (INPUTS * CLASSES + 4 * CLASSES) + 8


def test_another_batch_size_changes_activations_and_flops_alone() -> None:
    task = linear_task()
    small, large = measured(task, 2, batch_size=8), measured(task, 2, batch_size=16)
    assert (small.batch_size, large.batch_size) == (8, 16)
    assert large.memory.activations == 2 * small.memory.activations
    assert large.flops == 2 * small.flops
    assert large.memory.parameters == small.memory.parameters


def test_the_configuration_reaches_the_model_and_the_optimizer() -> None:
    cost = measured(linear_task(), 3, configuration={"optimizer": "Adam"})
    assert cost.memory.optimizer_state > 0


def test_generators_are_left_as_they_were() -> None:
    task = linear_task()
    before = torch.get_rng_state()
    measured(task, 1)
    num_layers_of(task)
    assert torch.equal(torch.get_rng_state(), before)


def test_nothing_of_a_step_outlives_its_measurement() -> None:
    built = []

    def model(_configuration: frostline.Configuration) -> nn.Module:
        made = nn.Sequential(nn.Linear(INPUTS, WIDTH), nn.Linear(WIDTH, CLASSES))
        built.append(weakref.ref(made))
        return made

    gc.disable()
    try:
        measured(linear_task(model=model), 1)
        assert built[-1]() is None
    finally:
        gc.enable()


def test_rows_come_one_by_one_from_the_cheapest_on() -> None:
    made = []

    def model(configuration: frostline.Configuration) -> nn.Module:
        made.append(configuration.get("batch_size"))
        return nn.Sequential(nn.Linear(INPUTS, WIDTH), nn.Linear(WIDTH, CLASSES))

    steps = measure_steps(linear_task(model=model), batch_sizes=[4, 8], device=CPU, warm_up=0, repetitions=1)
    first = next(steps)
    assert set(made) <= {None, 4}  # the others wait
    places = [(row.batch_size, row.trainable_layers) for row in [first, *steps]]
    assert places == [(4, 1), (4, 2), (8, 1), (8, 2)]


def test_a_step_that_fails_is_a_row_with_its_reason_and_the_rest_goes_on() -> None:
    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        if len(outputs) > 8:
            raise MemoryError("no room for\nso many")
        return mean_loss(outputs, targets)

    task = linear_task(loss_function=loss, batch_size=4)
    rows = list(measure_steps(task, layers=[1], batch_sizes=[4, 16, 8], device=CPU, warm_up=0, repetitions=1))
    assert [type(row) for row in rows] == [StepCost, FailedStep, StepCost]
    assert rows[1] == FailedStep(
        trainable_layers=1, num_layers=3, batch_size=16, reason="MemoryError: no room for so many"
    )


def test_what_torch_says_when_memory_is_out_becomes_the_reason() -> None:
    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return mean_loss(outputs, targets) + torch.empty(1 << 52).sum()

    (row,) = measure_steps(linear_task(loss_function=loss), layers=[2], device=CPU)
    assert isinstance(row, FailedStep)
    assert "RuntimeError" in row.reason
    assert "alloc" in row.reason
    assert row.batch_size == BATCH


class OneSize:
    """A task whose batches are of one size, whatever the configuration says."""

    def __init__(self, batch: Any) -> None:
        self.task = linear_task()
        self.batch = batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self.task, name)

    def training_batches(self, *_arguments: object, **_keywords: object) -> Iterator[Any]:
        while True:
            yield self.batch


def test_a_batch_size_that_the_task_does_not_read_is_refused() -> None:
    task: Any = OneSize((torch.randn(5, INPUTS), torch.randn(5, CLASSES)))
    assert own_batch_size(task) == 5
    assert measured(task, 1).batch_size == 5
    with pytest.raises(
        OptionError, match="batch_size is 7, but the batches of linear have 5 examples: it does not"
    ):
        measured(task, 1, batch_size=7)
    with pytest.raises(OptionError, match="batch_size is 7"):
        list(measure_steps(task, batch_sizes=[7], device=CPU))


@pytest.mark.parametrize("batch", ["words", (torch.tensor(1.0),)], ids=["no tensor", "a scalar"])
def test_a_batch_that_tells_no_number_of_examples_is_refused(batch: Any) -> None:
    with pytest.raises(TaskError, match="holds no tensor that tells its number of examples"):
        own_batch_size(OneSize(batch))  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [0, -1, True, 1.5])
def test_a_batch_size_that_is_no_number_of_examples_is_refused_at_once(size: Any) -> None:
    with pytest.raises(OptionError, match=r"must be a whole number in 1\.\.1048576"):
        measured(linear_task(), 1, batch_size=size)
    with pytest.raises(OptionError, match=r"must be a whole number in 1\.\.1048576"):
        measure_steps(linear_task(), batch_sizes=[4, size], device=CPU)


@pytest.mark.parametrize(
    ("warm_up", "repetitions", "what"),
    [(-1, 1, r"warm_up is -1, but .* in 0\.\."), (0, 0, r"repetitions is 0, but .* in 1\.\.")],
)
def test_too_few_steps_are_refused(warm_up: int, repetitions: int, what: str) -> None:
    with pytest.raises(OptionError, match=what):
        measure_steps(linear_task(), device=CPU, warm_up=warm_up, repetitions=repetitions)


def test_layers_that_the_model_does_not_have_are_refused_at_once() -> None:
    for wrong in ([0], [1, 4], []):
        with pytest.raises(FidelityError, match=r"this model has 3 layers, so it must be in 1\.\.3"):
            measure_steps(linear_task(), layers=wrong, device=CPU)
    assert checked_layers([3, 1, 3], 3) == (1, 3)
    assert checked_layers(None, 3) == (1, 2, 3)


def test_a_device_without_a_peak_is_refused_at_once() -> None:
    with pytest.raises(OptionError, match="device is 'meta'"):
        measure_steps(linear_task(), device=torch.device("meta"))


def test_a_hyperparameter_that_nobody_reads_ends_everything() -> None:
    with pytest.raises(HyperparameterError, match="learning_rat"):
        list(measure_steps(linear_task(), configuration={"learning_rat": 1.0}, device=CPU))


def test_clipping_and_half_precision_are_measured_too() -> None:
    cost = measured(linear_task(gradient_clip_norm=1.0), 3, compute_dtype=torch.bfloat16)
    assert cost.memory.parameters == FLOAT * PARAMETERS
    assert cost.flops == measured(linear_task(), 3).flops


def test_costs_on_every_device(device: torch.device) -> None:
    task = linear_task(optimizer=torch.optim.AdamW)
    cost = measure_step(task, trainable_layers=2, device=device, warm_up=1, repetitions=2)
    here = measured(task, 2)
    assert (cost.memory.parameters, cost.memory.gradients) == (here.memory.parameters, here.memory.gradients)
    assert cost.flops == here.flops
    assert cost.memory.peak > cost.memory.parameters
