from __future__ import annotations

import math
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from frostline.errors import FidelityError, OptionError, TaskError
from frostline.records import Configuration, Evaluation, Fidelity, Status
from frostline.seeding import derive_seed
from frostline.training.machine.devices import DevicePlan
from frostline.training.serial import train_model, train_serially
from tests.training.cases import (
    CPU,
    configured,
    job_of,
    noisy_network,
    perceptron,
    regression_data,
    regression_task,
    same_weights,
    settings_of,
)

FULL = Fidelity(trainable_layers=3, samples=160)


def results_of(evaluation: Evaluation) -> tuple[Any, ...]:
    """All but the seconds and bytes."""
    return evaluation.status, evaluation.score, evaluation.curve, evaluation.cost.samples, evaluation.reason


def hand_written(
    optimizer: Any, *, samples: int, warmup: float = 0, cooldown: float = 0, clip: float = 0
) -> nn.Module:
    """The training of the perceptron on a rung of ``samples``, written out."""
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(7, "initialisation"))
        model = perceptron(configured())
    orders = [
        torch.randperm(50, generator=torch.Generator().manual_seed(derive_seed(7, "data", epoch)))
        for epoch in range(4)
    ]
    inputs, targets = regression_data().tensors
    stepper = optimizer(model.parameters())
    learning_rate = stepper.param_groups[0]["lr"]
    for step, batch in enumerate(torch.cat(orders)[:samples].split(8)):
        share = (8 * step + 4) / samples
        factor = min(1.0, share / warmup if warmup else 1.0, (1 - share) / cooldown if cooldown else 1.0)
        stepper.param_groups[0]["lr"] = learning_rate * factor
        stepper.zero_grad()
        nn.functional.mse_loss(model(inputs[batch]), targets[batch]).backward()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        stepper.step()
    return model


CASES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (
        {"beta1": 0.8, "beta2": 0.9, "weight_decay": 0.1, "warmup_fraction": 0.25, "cooldown_fraction": 0.5},
        {
            "optimizer": lambda parameters: torch.optim.AdamW(
                parameters, lr=0.01, betas=(0.8, 0.9), weight_decay=0.1
            ),
            "warmup": 0.25,
            "cooldown": 0.5,
        },
    ),
    (
        {"optimizer": "SGD", "momentum": 0.9, "nesterov": True, "gradient_clip_norm": 0.3},
        {
            "optimizer": lambda parameters: torch.optim.SGD(parameters, lr=0.01, momentum=0.9, nesterov=True),
            "clip": 0.3,
        },
    ),
]


@pytest.mark.parametrize("samples", [160, 104])
@pytest.mark.parametrize(("hyperparameters", "by_hand"), CASES, ids=["AdamW", "SGD"])
def test_training_is_that_of_a_loop_written_by_hand(
    hyperparameters: dict[str, Any], by_hand: dict[str, Any], samples: int
) -> None:
    task = regression_task()
    fidelity = Fidelity(trainable_layers=3, samples=samples)
    evaluation, model = train_model(task, configured(**hyperparameters), fidelity, settings_of())
    expected = hand_written(**by_hand, samples=samples)
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=1e-12, atol=1e-12)
    inputs, targets = regression_data(20, seed=1).tensors
    with torch.no_grad():
        assert evaluation.score == pytest.approx(
            nn.functional.mse_loss(expected(inputs), targets).item(), rel=1e-12
        )


def test_only_the_last_layers_are_trained() -> None:
    task = regression_task()
    start = hand_written(lambda parameters: torch.optim.SGD(parameters, lr=0.0), samples=8)
    _, model = train_model(task, configured(), Fidelity(trainable_layers=1, samples=160), settings_of())
    ours, theirs = model.state_dict(), start.state_dict()
    assert {name for name in ours if not torch.equal(ours[name], theirs[name])} == {"2.weight", "2.bias"}


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_same_seed_gives_the_same_bits(layers: int, device: torch.device) -> None:
    task = regression_task(model=noisy_network)
    fidelity = Fidelity(trainable_layers=layers, samples=160)
    first, model = train_model(task, configured(), fidelity, settings_of(device))
    torch.rand(3)
    again, same = train_model(task, configured(), fidelity, settings_of(device))
    assert results_of(first) == results_of(again)
    assert same_weights(model, same)
    other, _ = train_model(task, configured(), fidelity, settings_of(device, root_seed=8))
    assert other.score != first.score


def test_the_result_does_not_depend_on_what_is_trained_before() -> None:
    task = regression_task(model=noisy_network)
    jobs = [
        job_of(configured(number, learning_rate=0.001 * 4**number), layers=layers)
        for number, layers in ((0, 3), (1, 1), (2, 2))
    ]
    forwards = [results_of(train_serially(task, job, settings_of())) for job in jobs]
    backwards = [results_of(train_serially(task, job, settings_of())) for job in reversed(jobs)]
    assert forwards == backwards[::-1]
    assert results_of(train_serially(regression_task(model=noisy_network), jobs[1], settings_of())) == forwards[1]


def test_neither_number_nor_rung_nor_validations_change_the_training() -> None:
    task = regression_task(model=noisy_network)
    _, model = train_model(task, configured(0), FULL, settings_of())
    _, same = train_model(task, configured(5), FULL, settings_of(num_validations=1))
    assert same_weights(model, same)


def test_all_configurations_drop_the_same_units() -> None:
    seen: list[Tensor] = []

    class Watching(nn.Dropout):
        def forward(self, input: Tensor) -> Tensor:  # noqa: A002
            output = super().forward(input)
            if self.training:
                seen.append(output == 0)
            return output

    def network(_configuration: Configuration) -> nn.Module:
        return nn.Sequential(nn.Linear(5, 8), nn.Sequential(Watching(0.5), nn.Linear(8, 1))).double()

    task = regression_task(model=network)
    for rate in (0.01, 0.1):
        train_serially(task, job_of(configured(learning_rate=rate), layers=2), settings_of())
    masks = torch.stack(seen)
    assert len(masks) == 2 * 20
    assert torch.equal(masks[:20], masks[20:])
    assert not torch.equal(masks[0], masks[1])


def test_the_generators_are_left_as_they_were(device: torch.device) -> None:
    torch.manual_seed(3)
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state())
    train_serially(regression_task(model=noisy_network), job_of(configured(), layers=2), settings_of(device))
    after = [torch.get_rng_state()] + ([torch.cuda.get_rng_state()] if device.type == "cuda" else [])
    for before, now in zip(states, after, strict=True):
        assert torch.equal(before, now)


def test_the_generators_are_left_as_they_were_by_a_task_that_raises() -> None:
    def broken(_configuration: Configuration) -> nn.Module:
        torch.rand(5)
        raise RuntimeError("no such model")

    state = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="no such model"):
        train_serially(regression_task(model=broken), job_of(configured()), settings_of())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("samples", "trained"), [(160, 160), (100, 96), (8, 8), (15, 8), (1, 8)])
def test_a_budget_is_whole_batches_and_never_more(samples: int, trained: int) -> None:
    evaluation = train_serially(regression_task(), job_of(configured(), samples=samples), settings_of())
    assert evaluation.cost.samples == trained
    assert evaluation.curve[-1].samples == trained


def test_the_curve_has_equal_shares_and_ends_with_the_score() -> None:
    evaluation = train_serially(regression_task(), job_of(configured()), settings_of())
    assert [point.samples for point in evaluation.curve] == [40, 80, 120, 160]
    assert evaluation.curve[-1].score == evaluation.score
    once = train_serially(regression_task(), job_of(configured()), settings_of(num_validations=1))
    assert once.curve == evaluation.curve[-1:]
    odd = train_serially(regression_task(), job_of(configured(), samples=100), settings_of(num_validations=3))
    assert [point.samples for point in odd.curve] == [40, 72, 96]
    many = train_serially(regression_task(), job_of(configured(), samples=24), settings_of(num_validations=50))
    assert [point.samples for point in many.curve] == [8, 16, 24]


@pytest.mark.parametrize(
    ("samples", "validated"),
    [(16, [16]), (40, [40]), (64, [40, 64]), (96, [40, 80, 96]), (160, [40, 80, 120, 160])],
)
def test_a_training_cut_short_is_validated_where_the_full_one_is_and_where_it_ends(
    samples: int, validated: list[int]
) -> None:
    settings = settings_of(horizon="full", num_validations=4)
    evaluation = train_serially(regression_task(), job_of(configured(), samples=samples), settings)
    assert [point.samples for point in evaluation.curve] == validated
    assert evaluation.curve[-1].score == evaluation.score


def test_the_horizon_is_that_of_the_rung_or_of_the_full_budget() -> None:
    task = regression_task(model=noisy_network)
    cooled = configured(cooldown_fraction=0.5)
    half = Fidelity(trainable_layers=3, samples=80)
    _, constant = train_model(task, configured(cooldown_fraction=0.0), half, settings_of())
    _, cut_short = train_model(task, cooled, half, settings_of(horizon="full"))
    _, compressed = train_model(task, cooled, half, settings_of(horizon="rung"))
    assert same_weights(cut_short, constant)
    assert not same_weights(compressed, constant)


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_a_loss_that_is_not_finite_diverges(optimizer: str, device: torch.device) -> None:
    job = job_of(configured(4, learning_rate=1e30, optimizer=optimizer))
    evaluation = train_serially(regression_task(), job, settings_of(device))
    assert (evaluation.status, evaluation.score, evaluation.number) == (Status.DIVERGED, None, 4)
    assert evaluation.reason is not None
    assert "is inf" in evaluation.reason or "is nan" in evaluation.reason
    assert all(math.isfinite(point.score) for point in evaluation.curve)
    assert results_of(train_serially(regression_task(), job, settings_of(device))) == results_of(evaluation)


def test_a_training_loss_that_is_not_finite_is_named() -> None:
    inputs, targets = regression_data().tensors
    broken = torch.utils.data.TensorDataset(inputs, targets.where(torch.arange(50)[:, None] != 13, torch.nan))
    evaluation = train_serially(regression_task(training_data=broken), job_of(configured()), settings_of())
    assert evaluation.status is Status.DIVERGED
    order = torch.randperm(50, generator=torch.Generator().manual_seed(derive_seed(7, "data", 0)))
    before = order.tolist().index(13) // 8 * 8
    assert evaluation.reason == f"the training loss after {before} samples is nan"
    assert evaluation.cost.samples == before + 8
    assert [point.samples for point in evaluation.curve] == [each for each in (40, 80, 120) if each <= before]


def test_a_score_that_is_not_finite_diverges() -> None:
    def score(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).sum() / 0.0

    evaluation = train_serially(regression_task(score_function=score), job_of(configured()), settings_of())
    assert (evaluation.status, evaluation.curve, evaluation.score) == (Status.DIVERGED, (), None)
    assert evaluation.reason in (
        "the score after 40 samples is inf",
        "the score after 40 samples is -inf",
        "the score after 40 samples is nan",
    )


def test_a_gradient_norm_that_is_not_finite_diverges() -> None:
    def steep(outputs: Tensor, targets: Tensor) -> Tensor:
        # Finite, with a gradient that is not.
        return (outputs - outputs.detach()).abs().sqrt().mean() + targets.mean()

    task = regression_task(loss_function=steep, score_function=nn.functional.mse_loss, gradient_clip_norm=1.0)
    evaluation = train_serially(task, job_of(configured()), settings_of())
    assert evaluation.status is Status.DIVERGED
    assert evaluation.reason is not None
    assert evaluation.reason.startswith("the gradient norm after 0 samples is ")


@pytest.mark.parametrize("statistics", ["calibrated", "batch"])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_normalised_networks_train_at_every_depth(layers: int, statistics: Any, device: torch.device) -> None:
    task = regression_task(model=noisy_network, frozen_statistics=statistics, batch_size=8)
    fidelity = Fidelity(trainable_layers=layers, samples=160)
    evaluation, model = train_model(task, configured(), fidelity, settings_of(device))
    assert evaluation.status is Status.FINISHED
    assert not model.training
    calibrated = int(model[0].norm.num_batches_tracked) == task.num_calibration_batches
    assert calibrated == (statistics == "calibrated" and layers < 3)


def test_calibrated_statistics_are_the_same_for_all_configurations() -> None:
    task = regression_task(model=noisy_network)
    fidelity = Fidelity(trainable_layers=1, samples=16)
    _, model = train_model(task, configured(), fidelity, settings_of())
    _, other = train_model(task, configured(batch_size=4, learning_rate=0.5), fidelity, settings_of())
    assert same_weights(model[0], other[0])
    assert same_weights(model[1], other[1])
    assert not same_weights(model[2], other[2])


def test_bfloat16_computes_and_float32_keeps() -> None:
    def single(configuration: Configuration) -> nn.Module:
        return noisy_network(configuration).float()

    def data(seed: int) -> torch.utils.data.TensorDataset:
        return torch.utils.data.TensorDataset(*[part.float() for part in regression_data(seed=seed).tensors])

    seen: list[torch.dtype] = []

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        seen.append(outputs.dtype)
        return nn.functional.mse_loss(outputs.float(), targets)

    task = regression_task(model=single, training_data=data(0), validation_data=data(1), loss_function=loss)
    plan = DevicePlan(device=CPU, compute_dtype=torch.bfloat16)
    evaluation, model = train_model(task, configured(), FULL, settings_of(device_plan=plan))
    assert set(seen) == {torch.bfloat16}
    assert evaluation.status is Status.FINISHED
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    exact, _ = train_model(task, configured(), FULL, settings_of())
    assert exact.score != evaluation.score
    assert exact.score == pytest.approx(evaluation.score, rel=0.2)


def test_memory_is_given_back_at_once() -> None:
    kept: list[weakref.ref[nn.Module]] = []

    def watched(configuration: Configuration) -> nn.Module:
        model = noisy_network(configuration)
        kept.append(weakref.ref(model))
        return model

    task = regression_task(model=watched)
    for layers in (1, 3):
        train_serially(task, job_of(configured(), layers=layers), settings_of())
    assert [reference() for reference in kept] == [None, None]


def test_peak_bytes_are_counted_where_the_device_can(device: torch.device) -> None:
    evaluation = train_serially(regression_task(), job_of(configured()), settings_of(device))
    assert (evaluation.cost.peak_bytes is None) == (device.type == "cpu")
    assert evaluation.cost.seconds > 0


def test_a_task_without_batches_is_refused() -> None:
    class Silent:
        def __init__(self) -> None:
            self._task = regression_task()

        def __getattr__(self, name: str) -> Any:
            return getattr(self._task, name)

        def training_batches(self, *_arguments: Any, **_options: Any) -> Iterator[Any]:
            return iter(())

    with pytest.raises(TaskError, match="regression gave no training batch"):
        train_serially(Silent(), job_of(configured()), settings_of())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"horizon": "rungs"}, "horizon is 'rungs', but must be one of rung, full"),
        ({"num_validations": 0}, "num_validations is 0, but the last one is the score: use at least 1"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        settings_of(**changes)


def test_a_number_of_layers_that_does_not_exist_is_refused() -> None:
    with pytest.raises(FidelityError, match=r"trainable_layers is 4, .*1\.\.3"):
        train_serially(regression_task(), job_of(configured(), layers=4), settings_of())
