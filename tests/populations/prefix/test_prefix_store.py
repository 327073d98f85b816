"""Outputs of frozen layers that are kept change nothing but the time."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from frostline.populations.engines import Engine
from frostline.populations.population import Population
from frostline.populations.prefix.prefix_store import PrefixStore
from frostline.records import Evaluation
from frostline.training.machine.devices import DevicePlan
from frostline.training.serial import train_serially
from tests.populations.cases import BATCH_SIZE, CASES, NUM_STEPS, Case, configuration_of, jobs_of, vectors
from tests.training.cases import settings_of

BY_NAME = {case.name: case for case in CASES}
ROOM = 2**24


class Counting(nn.Module):
    """Counts the examples that the frozen layers really see."""

    seen = 0

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        type(self).seen += len(x)
        result: Tensor = self.linear(x)
        return result


COUNTING = Case(
    name="counting",
    model=lambda: nn.Sequential(Counting(), nn.Linear(6, 6), nn.Linear(6, 3)),
    data=vectors,
    loss=nn.functional.cross_entropy,
    layers=(2,),
)


def trained(
    task: Any, store: PrefixStore | None, *, layers: int = 2, size: int = 2, **changes: Any
) -> list[Evaluation]:
    jobs = jobs_of([configuration_of(number) for number in range(size)], layers=layers)
    population = Population(task, jobs, settings_of(**changes), engine=Engine.SHARED, store=store)
    Counting.seen = 0
    return sorted(population.run(), key=lambda evaluation: evaluation.number)


def store_of(*, training: int = ROOM, validation: int = ROOM, directory: Path | None = None) -> PrefixStore:
    return PrefixStore(training_bytes=training, validation_bytes=validation, directory=directory)


@pytest.mark.parametrize("in_memory", [True, False], ids=["memory", "disk"])
@pytest.mark.parametrize(
    "name", ["gpt", "gpt tied", "resnet", "vit", "skips", "resnet of batch statistics", "drawing between"]
)
def test_kept_outputs_give_the_numbers_of_serial_training(name: str, in_memory: bool, tmp_path: Path) -> None:
    task = BY_NAME[name].task()
    store = store_of(directory=None if in_memory else tmp_path)
    for _ in range(2):
        for evaluation in trained(task, store):
            job = jobs_of([configuration_of(evaluation.number)], layers=2)[0]
            alone = train_serially(task, job, settings_of())
            assert [point.score for point in evaluation.curve] == pytest.approx(
                [point.score for point in alone.curve], rel=1e-9
            )
    assert list(tmp_path.iterdir()) == []


def test_every_example_goes_through_the_frozen_layers_once() -> None:
    num_examples, task, store = 20, COUNTING.task(), store_of()
    trained(task, store)
    # The layout is tried on pairs of the first batch, of training and of validation.
    assert num_examples <= Counting.seen - num_examples <= num_examples + 2 * BATCH_SIZE + 8
    trained(task, store)
    assert Counting.seen == 0


def test_without_room_for_training_only_validation_is_kept() -> None:
    trained(COUNTING.task(), store_of(training=0))
    validation = 20
    assert NUM_STEPS * BATCH_SIZE + validation <= Counting.seen <= NUM_STEPS * BATCH_SIZE + validation + 8


def test_with_little_room_a_part_is_kept_and_the_rest_computed() -> None:
    task = COUNTING.task()
    row = 6 * 8
    evaluations = trained(task, store_of(training=10 * (row + 200), validation=0))
    assert [each.score for each in evaluations] == [
        pytest.approx(train_serially(task, job, settings_of()).score, rel=1e-9)
        for job in jobs_of([configuration_of(number) for number in range(2)], layers=2)
    ]


def test_another_program_or_depth_starts_anew() -> None:
    store = store_of()
    for owner, layers in (("one", 2), ("two", 2), ("two", 1), ("two", 2)):
        store.belongs_to(training=owner, validation=owner)
        trained(COUNTING.task(), store, layers=layers)
        assert Counting.seen > 0, (owner, layers)
    store.belongs_to(training="two", validation="two")
    trained(COUNTING.task(), store, layers=2)
    assert Counting.seen == 0


def test_what_is_kept_of_validation_outlives_training_on_other_batches() -> None:
    store = store_of()
    whole = [each.score for each in trained(COUNTING.task(), store)]
    first = Counting.seen
    for owner in ("batches of four", "batches of eight"):
        store.belongs_to(training=owner, validation="the same")
        assert [each.score for each in trained(COUNTING.task(), store)] == whole
    assert first - Counting.seen >= 20  # the examples that it is validated on


class MixesExamples(nn.Module):
    """What it gives for an example depends on the others in its batch."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.linear(x - x.mean(dim=0))
        return result


def test_outputs_that_depend_on_the_batch_are_not_kept(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    case = dataclasses.replace(
        COUNTING, model=lambda: nn.Sequential(MixesExamples(), nn.Linear(6, 6), nn.Linear(6, 3))
    )
    task = case.task()
    evaluations = trained(task, store_of())
    assert any("those of an example depend on its batch" in record.getMessage() for record in caplog.records)
    for evaluation, job in zip(
        evaluations, jobs_of([configuration_of(k) for k in range(2)], layers=2), strict=True
    ):
        assert evaluation.curve == train_serially(task, job, settings_of()).curve


def test_augmented_examples_are_never_mistaken() -> None:
    def shift(inputs: Tensor, generator: torch.Generator) -> Tensor:
        return inputs + torch.randn(inputs.shape, generator=generator, dtype=inputs.dtype)

    task = COUNTING.task(augment=shift)
    evaluations = trained(task, store_of())
    assert Counting.seen >= NUM_STEPS * BATCH_SIZE
    for evaluation, job in zip(
        evaluations, jobs_of([configuration_of(k) for k in range(2)], layers=2), strict=True
    ):
        assert evaluation.curve == train_serially(task, job, settings_of()).curve


class Trimmed(nn.Module):
    """Gives as many columns as the longest example of the batch has."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        length = int((x != 0).sum(dim=1).max())
        result: Tensor = self.linear(x)[:, :length]
        return result


def lengths(counts: list[int]) -> TensorDataset:
    """Vectors of which so many columns are not 0."""
    x, targets = vectors(0).tensors
    counted = torch.tensor(counts).repeat(-(-len(x) // len(counts)))[: len(x), None]
    return TensorDataset(x.masked_fill(torch.arange(x.shape[1])[None] >= counted, 0.0), targets)


@pytest.mark.parametrize("counts", [[6, 2, 4], [3, 3, 3, 3, 6], [6] * 16 + [2] * 4], ids=str)
@pytest.mark.parametrize("room", [ROOM, 2_000], ids=["all", "a part"])
def test_outputs_as_wide_as_the_longest_of_the_batch_are_not_kept(counts: list[int], room: int) -> None:
    class Padded(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.pad(x, (0, 6 - x.shape[1]), value=float(x.shape[1]))

    case = dataclasses.replace(
        COUNTING,
        model=lambda: nn.Sequential(Trimmed(), Padded(), nn.Linear(6, 6), nn.Linear(6, 3)),
        data=lambda _seed: lengths(counts),
    )
    task = case.task()
    for evaluation in trained(task, store_of(training=room, validation=room)):
        alone = train_serially(task, jobs_of([configuration_of(evaluation.number)], layers=2)[0], settings_of())
        assert evaluation.curve == alone.curve


def test_bfloat16_does_not_hide_that_examples_depend_on_each_other(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    single = [TensorDataset(x.float(), targets) for x, targets in (vectors(k).tensors for k in range(2))]
    task = COUNTING.task(
        model=lambda _configuration: nn.Sequential(MixesExamples(), nn.Linear(6, 6), nn.Linear(6, 3)),
        training_data=single[0],
        validation_data=single[1],
    )
    trained(task, store_of(), device_plan=DevicePlan(device=torch.device("cpu"), compute_dtype=torch.bfloat16))
    assert any("those of an example depend on its batch" in record.getMessage() for record in caplog.records)
