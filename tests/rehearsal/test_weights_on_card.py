"""Models that are moved, filled, copied and put back on a CUDA device, and what is asked of one."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from frostline.costs.measurement import measure_steps
from frostline.costs.predicted.cuda_rules import CUBLAS_BYTES
from frostline.costs.predicted.prediction import predict_step
from frostline.costs.step_cost import StepCost
from frostline.layers import freeze
from frostline.layers.weights.deferred import build_deferred, move
from frostline.populations.engines import Engine
from frostline.populations.memory_budget import MemoryBudget
from frostline.populations.population import Population
from frostline.populations.prefix.prefix_store import PrefixStore
from frostline.tasks.builtin.digits_mlp import digits_mlp
from frostline.training.failures import give_memory_back
from frostline.training.machine.devices import (
    move_batch,
    peak_bytes,
    reset_peak_bytes,
    resolve_device,
    synchronise,
)
from frostline.training.machine.memory import available_bytes
from frostline.training.serial import train_serially
from tests.layers.models import Decoder
from tests.layers.models import tokens as token_ids
from tests.populations.cases import configuration_of, jobs_of, tokens
from tests.rehearsal.cases import (
    BY_NAME,
    CARD,
    ON_A_CARD,
    assert_same_evaluation,
    assert_same_on_both,
    is_rehearsed,
)
from tests.training.cases import CPU, settings_of

pytestmark = ON_A_CARD

KEPT = [("device", torch.bfloat16), ("stream", None), ("stream", torch.bfloat16)]


def in_float64(build: Callable[[], nn.Module]) -> nn.Module:
    """A model that is made in this type: what is recorded cannot be converted afterwards."""
    torch.set_default_dtype(torch.float64)
    try:
        return build()
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(("placement", "dtype"), [("device", None), *KEPT])
def test_a_model_that_is_made_later_is_filled_on_the_card(placement: Any, dtype: torch.dtype | None) -> None:
    plain = BY_NAME["gpt"]
    task = plain.task(
        model=lambda _: build_deferred(lambda: in_float64(plain.model), larger_than=100),
        frozen_placement=placement,
        frozen_dtype=dtype,
    )
    assert_same_on_both(task, layers=2)


@pytest.mark.parametrize(("placement", "dtype"), KEPT)
@pytest.mark.parametrize("tied", ["detach", "snapshot"])
def test_a_frozen_model_is_moved_copied_and_put_back(placement: Any, dtype: torch.dtype | None, tied: Any) -> None:
    model = BY_NAME["gpt tied" if tied == "snapshot" else "gpt"].model()
    freezing = freeze(model, trainable_layers=2, frozen_placement=placement, frozen_dtype=dtype, tied=tied)
    ids = tokens(0).tensors[0]
    expected = model(ids)
    for each in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        there = each.to(CARD)(ids.to(CARD))
        assert there.device.type == "cuda"
        torch.testing.assert_close(there.cpu(), expected, rtol=1e-5, atol=1e-6)
    copied = copy.deepcopy(model)
    torch.testing.assert_close(copied(ids.to(CARD)).cpu(), expected, rtol=1e-5, atol=1e-6)
    freezing.restore()
    assert {each.device.type for each in model.parameters()} == {"cuda"}
    if tied == "detach" or dtype is None:  # else the trained weight, which is not rounded, is back in its place
        torch.testing.assert_close(model(ids.to(CARD)).cpu(), expected, rtol=1e-5, atol=1e-6)


def test_a_loss_that_wants_whole_logits_gets_them_on_the_card() -> None:
    def plain_loss(outputs: Tensor, targets: Tensor) -> Tensor:
        logits = outputs.flatten(0, 1).to(torch.float64)
        return nn.functional.nll_loss(nn.functional.log_softmax(logits * 1.0, dim=-1), targets.flatten())

    assert_same_on_both(BY_NAME["gpt"].task(chunked_logits=True, loss_function=plain_loss), layers=2)


def test_statistics_are_calibrated_on_augmented_examples() -> None:
    def noisy(inputs: Tensor, generator: torch.Generator) -> Tensor:
        return inputs + torch.randn(inputs.shape, generator=generator, dtype=inputs.dtype)

    assert_same_on_both(BY_NAME["resnet"].task(augment=noisy), layers=2)


def test_with_little_room_a_part_of_a_batch_is_kept_and_the_rest_computed() -> None:
    task = BY_NAME["skips"].task()
    jobs = jobs_of([configuration_of(number) for number in range(2)], layers=2)
    settings = settings_of(CARD)
    store = PrefixStore(training_bytes=10 * 250, validation_bytes=0)
    population = Population(task, jobs, settings, engine=Engine.SHARED, store=store)
    for evaluation, job in zip(sorted(population.run(), key=lambda each: each.number), jobs, strict=True):
        assert_same_evaluation(evaluation, train_serially(task, job, settings))


def test_auto_is_the_card() -> None:
    assert resolve_device("auto") == CARD


def test_what_moves_by_itself_is_moved() -> None:
    class Encoding:
        def __init__(self, ids: Tensor) -> None:
            self.ids = ids

        def to(self, device: torch.device) -> Encoding:
            return Encoding(self.ids.to(device))

    (moved,) = move_batch((Encoding(torch.ones(2)),), CARD)
    assert moved.ids.device.type == "cuda"


def test_memory_is_looked_up_on_the_card() -> None:
    free = available_bytes(CARD)
    nothing = PrefixStore(training_bytes=0, validation_bytes=0)
    for device in (CARD, CPU):
        budget = MemoryBudget.parse("auto", device=device)
        assert 0 < budget.share_of(2) < budget.left_beside(nothing) < available_bytes(device) + free
    reset_peak_bytes(CARD)
    held = torch.ones(2**20, device=CARD)
    assert (peak_bytes(CARD) or 0) >= held.nbytes
    synchronise(CARD)
    give_memory_back()


def test_a_weight_that_shares_memory_is_put_back_on_the_card() -> None:
    model = Decoder(tied=False)
    model.head.weight = nn.Parameter(model.embed.weight.detach())
    ids = token_ids()
    expected = model(ids)
    freezing = freeze(model, trainable_layers=2, tied="snapshot")
    model.to(CARD)
    torch.testing.assert_close(model(ids.to(CARD)).cpu(), expected, rtol=1e-5, atol=1e-6)
    freezing.restore()
    assert {each.device.type for each in model.parameters()} == {"cuda"}


@pytest.mark.parametrize("layers", [2, 4])
def test_the_peak_is_that_predicted_for_cuda(layers: int) -> None:
    task = digits_mlp()
    predicted = predict_step(task, trainable_layers=layers, device="cuda").memory.peak
    (measured,) = measure_steps(task, layers=(layers,), device=CARD, repetitions=1)
    assert isinstance(measured, StepCost)
    # A card of host memory has no cuBLAS to work in memory of its own, and no blocks but those of 512 bytes.
    expected = predicted - (CUBLAS_BYTES if is_rehearsed() else 0)
    assert measured.memory.peak == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("is_in_file", [False, True], ids=["rounded", "in a file"])
def test_what_is_kept_small_of_a_model_made_later_is_never_made_whole(is_in_file: bool, tmp_path: Path) -> None:
    def frozen(device: torch.device, file: Path | None) -> nn.Module:
        torch.manual_seed(1)
        model = move(build_deferred(BY_NAME["gpt"].model, larger_than=0), device)
        placement = "device" if file is None else file
        freeze(model, trainable_layers=2, frozen_dtype=torch.bfloat16, frozen_placement=placement)
        return model

    if is_in_file:
        frozen(CPU, tmp_path / "weights.safetensors")
    here, there = (
        frozen(device, tmp_path / "weights.safetensors" if is_in_file else None) for device in (CPU, CARD)
    )
    ids = tokens(0).tensors[0]
    torch.testing.assert_close(there(ids.to(CARD)).cpu(), here(ids), rtol=1e-5, atol=1e-6)


def test_a_checkpoint_of_another_program_is_read_on_the_cpu(tmp_path: Path) -> None:
    case = BY_NAME["skips"]
    torch.save(case.model().double().state_dict(), tmp_path / "trained.pt")
    assert_same_on_both(case.task(pretrained=str(tmp_path / "trained.pt")), layers=2)
