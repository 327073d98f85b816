from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch import nn

from frostline.errors import FidelityError
from frostline.records import Configuration, Evaluation, Job, Status
from frostline.training.course import TrainingSettings, checkpoints_of
from frostline.training.machine.randomness import borrowed_generators
from frostline.training.serial import train_serially
from frostline.training.session import begin_session
from frostline.training.supervised.supervised_task import SupervisedTask
from tests.training.cases import (
    Block,
    Drawing,
    configured,
    job_of,
    noisy_network,
    regression_data,
    regression_task,
    settings_of,
)

COOLED = configured(3, warmup_fraction=0.2, cooldown_fraction=0.5, weight_decay=0.1)
PATH = (40, 80, 160)


@pytest.fixture
def task() -> SupervisedTask:
    return regression_task(model=noisy_network)


def rung(index: int, configuration: Configuration = COOLED, *, layers: int = 2) -> Job:
    return job_of(configuration, layers=layers, samples=PATH[index], path=PATH[:index])


def climb(task: SupervisedTask, settings: TrainingSettings) -> list[Evaluation]:
    return [train_serially(task, rung(index), settings) for index in range(3)]


def files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_with_the_full_horizon_going_on_is_training_straight_through(
    task: SupervisedTask, tmp_path: Path, layers: int, device: torch.device
) -> None:
    settings = settings_of(device, checkpoints=tmp_path, horizon="full")
    steps = [train_serially(task, rung(index, layers=layers), settings) for index in range(3)]
    straight = train_serially(task, job_of(COOLED, layers=layers), settings_of(device, horizon="full"))
    assert steps[-1].score == straight.score
    assert [step.cost.samples for step in steps] == [40, 40, 80]
    assert straight.cost.samples == 160
    shared = set(steps[-1].curve) & set(straight.curve)
    assert {point.samples for point in shared} >= {40, 80, 120, 160}


@pytest.mark.parametrize("num_workers", [0, pytest.param(2, marks=pytest.mark.multiprocess)])
def test_data_that_draw_are_drawn_alike_when_going_on(
    tmp_path: Path, num_workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frostline.training.supervised.feed._WORTH_STARTING", 0.0)
    drawing = Drawing(regression_data())
    task = regression_task(training_data=drawing, data_fingerprint="drawing", num_workers=num_workers)
    settings = settings_of(checkpoints=tmp_path, horizon="full")
    steps = climb(task, settings)
    straight = train_serially(task, job_of(COOLED, layers=2), settings_of(horizon="full"))
    assert [step.cost.samples for step in steps] == [40, 40, 80]
    assert steps[-1].score == straight.score
    assert straight.score != train_serially(regression_task(), job_of(COOLED, layers=2), settings_of()).score


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_before_the_end_statistics_are_measured_and_the_training_is_the_same(
    task: SupervisedTask, tmp_path: Path, layers: int, device: torch.device
) -> None:
    measured, running = (
        [
            train_serially(
                task,
                rung(index, layers=layers),
                settings_of(device, checkpoints=tmp_path / kind, horizon="full", statistics=kind),
            )
            for index in range(3)
        ]
        for kind in ("batches", "running")
    )
    assert measured[-1].score == running[-1].score
    assert [step.cost.samples for step in measured] == [40, 40, 80]
    # With one layer nothing that is trained is normalised.
    assert (measured[0].score == running[0].score) == (layers == 1)
    ours, theirs = measured[-1].curve, running[-1].curve
    assert [point.samples for point in ours] == [point.samples for point in theirs] == [40, 80, 120, 160]
    assert [one == other for one, other in zip(ours, theirs, strict=True)] == [layers == 1] * 3 + [True]


def test_a_measured_score_is_by_the_first_batches_at_the_present_weights() -> None:
    task = regression_task(model=lambda _: nn.Sequential(Block(5), nn.Linear(16, 1)).double())
    with borrowed_generators(torch.device("cpu")):
        session = begin_session(
            task, COOLED, trainable_layers=2, device_plan=settings_of().device_plan, root_seed=7
        )
        batches = [*islice(task.training_batches(COOLED, seed=7, skip_samples=0), 10)]
        for batch in batches:
            session.step(batch, rate_factor=1.0)
        before = copy.deepcopy(session.model.state_dict())
        with session.measured(session.measuring_batches()):
            score = session.score()
        assert all(torch.equal(value, before[name]) for name, value in session.model.state_dict().items())
        assert session.model.training
        block = session.model[0]
        assert isinstance(block, Block)
        activations = [block.linear(inputs) for inputs, _ in batches[:2]]
        block.norm.running_mean = torch.stack([each.mean(0) for each in activations]).mean(0).detach()
        block.norm.running_var = torch.stack([each.var(0) for each in activations]).mean(0).detach()
        assert session.score() == pytest.approx(score, rel=1e-12)


def test_an_end_that_no_batch_fits_behind_is_scored_as_it_is() -> None:
    # Of 150 samples 144 are trained on, and 4 of 25 shares are over only there.
    task = regression_task(model=noisy_network, full_samples=150)
    kinds = [
        train_serially(
            task, job_of(COOLED, samples=150), settings_of(horizon="full", num_validations=25, statistics=kind)
        )
        for kind in ("batches", "running")
    ]
    assert kinds[0].score == kinds[1].score
    assert kinds[0].curve[-1] == kinds[1].curve[-1]
    assert kinds[0].curve[:-1] != kinds[1].curve[:-1]
    assert [point.samples for point in kinds[0].curve] == [point.samples for point in kinds[1].curve]


def test_a_budget_that_is_no_whole_batches_goes_on_where_it_stopped(tmp_path: Path, task: SupervisedTask) -> None:
    settings = settings_of(checkpoints=tmp_path, horizon="full")
    train_serially(task, job_of(COOLED, samples=45), settings)
    continued = train_serially(task, job_of(COOLED, samples=93, path=(45,)), settings)
    straight = train_serially(task, job_of(COOLED, samples=93), settings_of(horizon="full"))
    assert continued.score == straight.score
    assert (continued.cost.samples, straight.cost.samples) == (48, 88)


def test_nothing_is_left_to_do_when_no_batch_fits_between(tmp_path: Path, task: SupervisedTask) -> None:
    settings = settings_of(checkpoints=tmp_path, horizon="full")
    first = train_serially(task, job_of(COOLED, samples=40), settings)
    second = train_serially(task, job_of(COOLED, samples=44, path=(40,)), settings)
    assert second.cost.samples == 0
    assert (second.score, second.curve) == (first.score, first.curve)


def test_with_the_rung_horizon_it_goes_on_with_the_schedule_of_the_new_rung(tmp_path: Path) -> None:
    factors: list[float] = []

    def recording(_configuration: Configuration) -> Callable[[float], float]:
        def schedule(share: float) -> float:
            factors.append(share)
            return 1.0

        return schedule

    task = regression_task(schedule=recording)
    for index in range(3):
        train_serially(task, rung(index, configured()), settings_of(checkpoints=tmp_path))
    steps = [
        (step + 0.5) / rung_steps
        for first, rung_steps in ((0, 5), (5, 10), (10, 20))
        for step in range(first, rung_steps)
    ]
    assert factors == pytest.approx(steps)


@pytest.mark.parametrize("horizon", ["rung", "full"])
def test_the_numbers_are_the_same_whatever_checkpoints_are_there(
    task: SupervisedTask, tmp_path: Path, horizon: str
) -> None:
    reference = climb(task, settings_of(checkpoints=tmp_path / "kept", horizon=horizon))
    nothing = train_serially(task, rung(2), settings_of(horizon=horizon))
    assert (nothing.score, nothing.curve) == (reference[2].score, reference[2].curve)
    assert (nothing.cost.samples, reference[2].cost.samples) == (160, 80)

    rebuilding = settings_of(checkpoints=tmp_path / "rebuilt", horizon=horizon)
    rebuilt = train_serially(task, rung(2), rebuilding)
    assert (rebuilt.score, rebuilt.curve) == (reference[2].score, reference[2].curve)
    # The rungs below were written on the way, so a second promotion finds them.
    assert train_serially(task, rung(2), rebuilding).cost.samples == 80
    assert train_serially(task, rung(1), rebuilding).cost.samples == 40


def test_rungs_differ_from_straight_training_under_the_rung_horizon(task: SupervisedTask) -> None:
    chain = train_serially(task, rung(2), settings_of())
    straight = train_serially(task, job_of(COOLED, layers=2), settings_of())
    assert chain.score != straight.score


@pytest.mark.parametrize("damage", ["deleted", "truncated", "emptied", "flipped", "renamed"])
def test_a_damaged_checkpoint_is_made_again(
    task: SupervisedTask, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_of(checkpoints=tmp_path)
    reference = climb(task, settings)
    (path,) = [path for path in files(tmp_path) if "rung1" in path.name]
    contents = path.read_bytes()
    match damage:
        case "deleted":
            path.unlink()
        case "truncated":
            path.write_bytes(contents[: len(contents) // 2])
        case "emptied":
            path.write_bytes(b"")
        case "flipped":
            middle = len(contents) // 2
            path.write_bytes(contents[:middle] + bytes([contents[middle] ^ 1]) + contents[middle + 1 :])
        case "renamed":
            other = next(path for path in files(tmp_path) if "rung0" in path.name)
            other.replace(path)
    again = train_serially(task, rung(2), settings)
    assert (again.score, again.curve) == (reference[2].score, reference[2].curve)
    assert again.cost.samples == (160 if damage == "renamed" else 120)
    warned = "is not used, the training is made again: its contents are not what was written" in caplog.text
    assert warned == (damage != "deleted")
    # And the damaged one has been replaced.
    assert train_serially(task, rung(2), settings).cost.samples == 80


def test_a_checkpoint_of_anything_else_is_never_used(task: SupervisedTask, tmp_path: Path) -> None:
    settings = settings_of(checkpoints=tmp_path)
    train_serially(task, rung(0), settings)

    def resumed(task: SupervisedTask, job: Job, settings: TrainingSettings) -> bool:
        return train_serially(task, job, settings).cost.samples < job.fidelity.samples

    assert resumed(task, rung(1), settings)
    assert not resumed(task, rung(1, configured(3)), settings)
    assert not resumed(task, rung(1, configured(4, **COOLED)), settings)
    assert not resumed(task, rung(1, layers=3), settings)
    assert not resumed(task, job_of(COOLED, layers=2, samples=80, path=(32,)), settings)
    assert not resumed(task, rung(1), settings_of(checkpoints=tmp_path, root_seed=8))
    assert not resumed(task, rung(1), settings_of(checkpoints=tmp_path, horizon="full"))
    assert not resumed(task, rung(1), dataclasses.replace(settings, num_validations=2))
    assert not resumed(regression_task(model=noisy_network, full_samples=320), rung(1), settings)
    assert not resumed(regression_task(), rung(1), settings)


def test_checkpoints_are_written_only_where_a_training_may_go_on(task: SupervisedTask, tmp_path: Path) -> None:
    settings = settings_of(checkpoints=tmp_path)
    train_serially(task, dataclasses.replace(rung(0), may_continue=False), settings)
    assert files(tmp_path) == []
    train_serially(task, job_of(COOLED, layers=2), settings)
    assert files(tmp_path) == []
    diverged = train_serially(task, rung(0, configured(learning_rate=1e300)), settings)
    assert diverged.status is Status.DIVERGED
    assert files(tmp_path) == []
    climb(task, settings)
    assert ["rung0" in path.name for path in files(tmp_path)] == [True, False]


def test_frozen_parameters_take_no_room_on_the_disk(tmp_path: Path) -> None:
    def wide(_configuration: Configuration) -> nn.Module:
        return nn.Sequential(nn.Linear(5, 20_000), nn.Linear(20_000, 1)).double()

    train_serially(regression_task(model=wide), rung(0, configured(), layers=1), settings_of(checkpoints=tmp_path))
    (path,) = files(tmp_path)
    assert path.stat().st_size < 5 * 20_000 * 8


def test_a_lower_rung_that_diverges_ends_the_evaluation(task: SupervisedTask) -> None:
    evaluation = train_serially(task, rung(2, configured(learning_rate=1e300)), settings_of())
    assert evaluation.status is Status.DIVERGED
    assert evaluation.cost.samples <= 40


def test_forgetting_deletes_the_checkpoints_of_one_configuration(task: SupervisedTask, tmp_path: Path) -> None:
    settings = settings_of(checkpoints=tmp_path)
    for number in (1, 10, 100_001, 1_000_001):
        train_serially(task, rung(0, configured(number)), settings)
    checkpoints = checkpoints_of(task, settings)
    assert checkpoints is not None
    (tmp_path / checkpoints.folder.name / "000001-rung0-left-by-a-killed-process.tmp").write_bytes(b"half")
    checkpoints.forget(1)
    assert [path.name.split("-")[0] for path in files(tmp_path)] == ["000010", "1000001", "100001"]
    checkpoints.forget(100_000)  # which the longer number begins with
    assert len(files(tmp_path)) == 3
    checkpoints_of(task, settings_of(checkpoints=tmp_path / "nowhere")).forget(1)  # type: ignore[union-attr]
    assert checkpoints_of(task, settings_of()) is None


@pytest.mark.parametrize(("layers", "lower"), [((2, 3), (40, 80)), ((2, 2), (80, 40))])
def test_a_path_that_cannot_be_continued_is_refused(
    task: SupervisedTask, layers: tuple[int, int], lower: tuple[int, int]
) -> None:
    job = job_of(COOLED, layers=layers[1], samples=lower[1])
    before = job_of(COOLED, layers=layers[0], samples=lower[0]).fidelity
    with pytest.raises(FidelityError, match="only the samples may rise; a training of other layers starts"):
        train_serially(task, dataclasses.replace(job, rung=1, continued_from=(before,)), settings_of())


def two_views(examples: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    inputs, targets = (torch.stack(parts) for parts in zip(*examples, strict=True))
    return torch.cat([inputs, inputs + 0.1]), torch.cat([targets, targets])


def time_first(examples: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    inputs, targets = (torch.stack(parts) for parts in zip(*examples, strict=True))
    return inputs.T, targets


class Turned(nn.Sequential):
    """Takes inputs whose second dimension is that of the examples."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = super().forward(inputs.T)
        return result


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("collate_fn", [two_views, time_first])
def test_batches_with_another_number_of_rows_than_examples_go_on_where_they_were(
    collate_fn: Callable[..., tuple[torch.Tensor, torch.Tensor]],
    num_workers: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("frostline.training.supervised.feed._WORTH_STARTING", 0.0)
    kind = Turned if collate_fn is time_first else nn.Sequential

    def model(_configuration: Configuration) -> nn.Module:
        return kind(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1)).double()

    task = regression_task(model=model, collate_fn=collate_fn, num_workers=num_workers)
    first, *_, last = (rung(index) for index in range(3))
    settings = settings_of(checkpoints=tmp_path, horizon="full")
    steps = [train_serially(task, job, settings) for job in (first, last)]
    straight = train_serially(task, job_of(COOLED, layers=2), settings_of(horizon="full"))
    assert [step.cost.samples for step in steps] == [40, 120]
    assert steps[-1].score == straight.score
