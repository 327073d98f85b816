"""Steps that are captured as CUDA graphs and replayed give the numbers of serial training, or are not captured, by name."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from frostline.populations.engines import Engine
from frostline.populations.population import Population
from frostline.populations.prefix.cannot_share import CannotShareError
from frostline.populations.prefix.prefix_store import PrefixStore
from frostline.populations.stacking.captured import WARM_UP_STEPS, CapturedStep
from frostline.protocols import Task
from frostline.records import Job
from frostline.run.execution.options import TrainingOptions
from frostline.run.plan import SearchPlan
from frostline.run.tuning import tune_task
from frostline.search.ladder import Ladder
from frostline.training.serial import train_serially
from frostline.training.steps.finiteness import Readings
from tests.populations.cases import BATCH_SIZE, CASES, OPTIMIZERS, Case, configuration_of, jobs_of, mixed_loss
from tests.populations.test_models_that_change import task_of
from tests.populations.test_paths import Dropped
from tests.rehearsal.cases import BY_NAME, CARD, ON_A_CARD, assert_same_evaluation, is_rehearsed, task_layers
from tests.training.cases import settings_of

pytestmark = ON_A_CARD

SAMPLES = 12 * BATCH_SIZE
# What a step draws in Python is another computation each time.
DRAWING = ("drawing from libraries", "drawing between")
EVERY_CASE = [
    pytest.param(case, layers, id=f"{case.name}-{layers}")
    for case in CASES
    for layers in case.layers
    if case.name not in DRAWING
]


@pytest.fixture
def replays(monkeypatch: pytest.MonkeyPatch) -> list[CapturedStep]:
    """The captured steps that are made."""
    made: list[CapturedStep] = []
    own = CapturedStep.__init__

    def noted(self: CapturedStep, *args: Any, **kwargs: Any) -> None:
        own(self, *args, **kwargs)
        made.append(self)

    monkeypatch.setattr(CapturedStep, "__init__", noted)
    return made


def three(layers: int, samples: int = SAMPLES) -> list[Job]:
    return jobs_of([configuration_of(number) for number in range(3)], layers=layers, samples=samples)


def assert_same_as_alone(task: Task, jobs: list[Job], *, engine: Engine = Engine.CAPTURED, **options: Any) -> None:
    """Every evaluation is that of serial training, and the last steps were made by ``engine``."""
    settings = settings_of(CARD, num_validations=2)
    population = Population(task, jobs, settings, engine=Engine.CAPTURED, **options)
    together = sorted(population.run(), key=lambda each: each.number)
    assert population.trial.engine is engine, population.trial.why
    for evaluation, job in zip(together, jobs, strict=True):
        assert_same_evaluation(evaluation, train_serially(task, job, settings))


@pytest.mark.parametrize(("case", "layers"), EVERY_CASE)
def test_every_family_is_replayed(case: Case, layers: int, replays: list[CapturedStep]) -> None:
    if case.name == "gpt with dropout" and not is_rehearsed():
        pytest.skip("a card draws other numbers for a stack")
    assert_same_as_alone(case.task(), three(layers))
    # A first step shows that all weights have gradients.
    assert [step.num_replays for step in replays] == [SAMPLES // BATCH_SIZE - 1 - WARM_UP_STEPS]


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "AdamW"])
def test_every_optimizer_of_a_joint_update_is_replayed(name: str, replays: list[CapturedStep]) -> None:
    assert_same_as_alone(BY_NAME["resnet"].task(**OPTIMIZERS[name]), three(2))
    assert replays[0].num_replays > 0


def test_outputs_that_are_kept_are_put_in_place(replays: list[CapturedStep]) -> None:
    # Of 20 examples: the second epoch is handed back.
    store = PrefixStore(training_bytes=2**20, validation_bytes=2**20)
    assert_same_as_alone(BY_NAME["gpt"].task(), three(2), store=store)
    assert replays[0].num_replays > 0


def test_a_batch_of_which_nothing_is_handed_back_is_not_replayed(replays: list[CapturedStep]) -> None:
    # Which of the frozen layers are left out is drawn in Python.
    assert_same_as_alone(task_of(Dropped), three(2, samples=2 * SAMPLES))
    assert 0 < replays[0].num_replays < 2 * SAMPLES // BATCH_SIZE - 1 - WARM_UP_STEPS


def test_those_who_stay_are_captured_anew(replays: list[CapturedStep]) -> None:
    jobs = [
        dataclasses.replace(job, fidelity=dataclasses.replace(job.fidelity, samples=samples))
        for job, samples in zip(three(2), (SAMPLES, SAMPLES // 2, SAMPLES), strict=True)
    ]
    assert_same_as_alone(BY_NAME["resnet"].task(), jobs)
    assert [step.num_replays > 0 for step in replays] == [True, True]


def test_losses_and_norms_that_are_read_late_are_those_of_their_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    task, jobs, settings = BY_NAME["skips"].task(), three(2), settings_of(CARD, num_validations=1)
    noted: list[tuple[Any, ...]] = []
    own = Readings.add

    def add(self: Readings, *reading: Any) -> None:
        noted.append(reading)
        own(self, *reading)

    monkeypatch.setattr(Readings, "add", add)
    list(Population(task, jobs, settings, engine=Engine.CAPTURED).run())
    together, noted = noted[:: len(jobs)], []
    train_serially(task, jobs[0], settings)
    values = [[float(each) for reading in readings for each in reading] for readings in (together, noted)]
    assert values[0] == pytest.approx(values[1], rel=1e-7)


def test_a_whole_search_is_replayed(replays: list[CapturedStep], tmp_path: Any) -> None:
    task = BY_NAME["skips"].task(full_samples=40 * BATCH_SIZE)
    ladder = Ladder.diagonal(num_layers=task_layers(task), full_samples=task.full_samples, num_rungs=2)
    results = [
        tune_task(
            task,
            study=engine,
            ladder=ladder,
            plan=SearchPlan(configurations=4),
            training=TrainingOptions(device="cuda", engine=engine, runs=tmp_path),
            storage=f"sqlite:///{tmp_path}/studies.db",
        )
        for engine in ("serial", "captured")
    ]
    assert results[0].score == pytest.approx(results[1].score, rel=1e-7)
    assert sum(step.num_replays for step in replays) > 0


class Counting:
    """A loss that counts its calls, and of which something depends on how many there were."""

    def __init__(self, factor: Callable[[int], float]) -> None:
        self.calls = 0
        self.factor = factor

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        self.calls += 1
        return nn.functional.cross_entropy(outputs, targets) * self.factor(self.calls)


class TestWhatCannotBeCaptured:
    def refused(self, caplog: pytest.LogCaptureFixture, task: Task, words: str) -> None:
        with caplog.at_level(logging.WARNING):
            assert_same_as_alone(task, three(2), engine=Engine.STACKED)
        assert [record.message for record in caplog.records if "not captured" in record.message] == [
            f"3 configurations' steps are not captured: {words}"
        ]

    def test_numbers_from_the_host(self, caplog: pytest.LogCaptureFixture) -> None:
        def weighted(outputs: Tensor, targets: Tensor) -> Tensor:
            weight = torch.ones(3, dtype=outputs.dtype).to(outputs.device, non_blocking=True)
            return nn.functional.cross_entropy(outputs, targets, weight=weight)

        words = "Cannot copy between CPU and CUDA tensors during CUDA graph capture"
        if not is_rehearsed():
            pytest.skip("a card says it in other words")
        self.refused(caplog, BY_NAME["skips"].task(loss_function=weighted), f"RuntimeError: {words}")

    def test_an_optimizer_that_steps_by_itself(self, caplog: pytest.LogCaptureFixture) -> None:
        task = BY_NAME["skips"].task(optimizer=torch.optim.RMSprop)
        self.refused(caplog, task, "RMSprop steps each configuration by itself")

    def test_a_step_that_python_makes_another_every_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # Only now, when it is captured: before, nothing could be proven of it.
        loss = Counting(lambda calls: 1.0 + max(0, calls - 1000))
        task, own = BY_NAME["skips"].task(loss_function=loss), CapturedStep._capture

        def count_from_now_on(step: CapturedStep, batch: Any) -> str | None:
            loss.calls = 1000
            return own(step, batch)

        monkeypatch.setattr(CapturedStep, "_capture", count_from_now_on)
        population = Population(task, three(2), settings_of(CARD, num_validations=1), engine=Engine.CAPTURED)
        list(population.run())
        assert population.trial.engine is Engine.STACKED
        assert population.trial.why == "replay 1 gives something else than the step itself"

    @pytest.mark.parametrize("name", ["drawing from libraries", "mlp"])
    def test_a_step_that_draws_in_python(self, name: str) -> None:
        task = BY_NAME[name].task(loss_function=mixed_loss, score_function=nn.functional.cross_entropy)
        assert_same_as_alone(task, three(5), engine=Engine.STACKED)

    def test_a_step_that_changes_later_ends_the_population(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loss = Counting(lambda calls: 1.0 if calls < 1000 else 2.0)
        task, own = BY_NAME["skips"].task(loss_function=loss), CapturedStep._compared

        def change_after(step: CapturedStep, batch: Any) -> Any:
            result = own(step, batch)
            loss.calls = 1000
            return result

        monkeypatch.setattr(CapturedStep, "_compared", change_after)
        population = Population(task, three(2), settings_of(CARD, num_validations=1), engine=Engine.CAPTURED)
        with pytest.raises(
            CannotShareError, match=r"replay 8 gives something else than the step itself: the model"
        ):
            list(population.run())
