"""A population's members are trained as if each were alone."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from frostline.layers import freezing_of
from frostline.populations import population as population_module
from frostline.populations.engines import Engine
from frostline.populations.population import Population
from frostline.populations.prefix.cannot_share import CannotShareError
from frostline.protocols import Task
from frostline.records import Configuration, Evaluation, Fidelity, Job, Progress, Status
from frostline.training.course import TrainingSettings
from frostline.training.serial import train_model, train_serially
from tests.populations.cases import (
    BATCH_SIZE,
    CASES,
    NUM_STEPS,
    OPTIMIZERS,
    Case,
    configuration_of,
    gpt,
    jobs_of,
    token_case,
    tokens,
    vectors,
)
from tests.training.cases import Drawing, configured, regression_data, regression_task, settings_of

ENGINES = (Engine.SHARED, Engine.STACKED)
BY_NAME = {case.name: case for case in CASES}
EVERY_CASE = [pytest.param(case, layers, id=f"{case.name}-{layers}") for case in CASES for layers in case.layers]


class Kept(Population):
    """A population that keeps its members' final weights."""

    weights: dict[int, dict[str, Tensor]]

    def _leave(self, course: Any) -> None:
        state = course.session.model.state_dict()
        self.weights[course.job.configuration.number] = {name: value.clone() for name, value in state.items()}
        super()._leave(course)


def trained_together(
    task: Task, jobs: Sequence[Job], settings: TrainingSettings | None = None, engine: Engine = Engine.SHARED
) -> tuple[list[Evaluation], dict[int, dict[str, Tensor]]]:
    population = Kept(task, jobs, settings or settings_of(), engine=engine)
    population.weights = {}
    evaluations = sorted(population.run(), key=lambda evaluation: (evaluation.number, evaluation.rung))
    return evaluations, population.weights


def assert_same(together: Evaluation, alone: Evaluation, *, rel: float = 1e-9) -> None:
    assert (together.request, together.fidelity, together.status) == (alone.request, alone.fidelity, alone.status)
    assert together.cost.samples == alone.cost.samples
    assert together.reason == alone.reason
    assert [point.samples for point in together.curve] == [point.samples for point in alone.curve]
    assert [point.score for point in together.curve] == pytest.approx(
        [point.score for point in alone.curve], rel=rel
    )
    assert together.score == (None if alone.score is None else pytest.approx(alone.score, rel=rel))


def assert_same_as_alone(
    task: Task, jobs: Sequence[Job], settings: TrainingSettings | None = None, engine: Engine = Engine.SHARED
) -> list[Evaluation]:
    """Every evaluation and every weight and buffer is that of serial training."""
    settings = settings or settings_of()
    evaluations, weights = trained_together(task, jobs, settings, engine)
    assert len(evaluations) == len(jobs)
    for evaluation, job in zip(evaluations, jobs, strict=True):
        alone, model = train_model(task, job.configuration, job.fidelity, settings)
        assert_same(evaluation, alone)
        assert evaluation.cost.population == len(jobs)
        if evaluation.status is Status.FINISHED:
            state = model.state_dict()
            torch.testing.assert_close(weights[job.configuration.number], dict(state), rtol=1e-9, atol=1e-11)
    return evaluations


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("case", "layers"), EVERY_CASE)
def test_every_family_follows_its_serial_twin(case: Case, layers: int, engine: Engine) -> None:
    jobs = jobs_of([configuration_of(number) for number in range(3)], layers=layers)
    assert_same_as_alone(case.task(), jobs, engine=engine)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("case", [BY_NAME["gpt"], BY_NAME["resnet"]], ids=lambda case: case.name)
def test_every_optimizer_follows_its_serial_twin(case: Case, optimizer: str, engine: Engine) -> None:
    jobs = jobs_of([configuration_of(number) for number in range(2)], layers=2)
    assert_same_as_alone(case.task(**OPTIMIZERS[optimizer]), jobs, engine=engine)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("size", [1, 2, 7])
def test_the_size_of_a_population_does_not_show(size: int, engine: Engine) -> None:
    jobs = jobs_of([configuration_of(number) for number in range(size)], layers=2)
    assert_same_as_alone(BY_NAME["mlp"].task(), jobs, engine=engine)


@pytest.mark.parametrize("num_workers", [0, pytest.param(1, marks=pytest.mark.multiprocess)])
@pytest.mark.parametrize("engine", ENGINES)
def test_data_that_draw_are_drawn_alike_in_company(
    engine: Engine, num_workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frostline.training.supervised.feed._WORTH_STARTING", 0.0)
    task = regression_task(
        training_data=Drawing(regression_data()),
        validation_data=Drawing(regression_data(20, seed=1)),
        data_fingerprint="drawing",
        num_workers=num_workers,
    )
    jobs = jobs_of([configured(number, learning_rate=0.01 * (1 + number)) for number in range(3)], layers=2)
    assert_same_as_alone(task, jobs, engine=engine)


def test_a_compiled_population_follows_its_serial_twins_and_says_what_compiling_took(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Traced as ever; what makes machine code of that takes most of a minute (``test_stacked`` has it).
    whole = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, **_: whole(function, backend="eager", dynamic=False))
    jobs = jobs_of([configuration_of(number) for number in range(2)], layers=2)
    with caplog.at_level(logging.INFO):
        assert_same_as_alone(BY_NAME["mlp"].task(), jobs, engine=Engine.COMPILED)
    words = [record.message for record in caplog.records if "compiled and proven" in record.message]
    assert [re.sub(r"\d+\.\d", "N", each) for each in words] == [
        "2 configurations' step is compiled and proven, in N s"
    ]


def test_a_step_is_captured_on_cuda_alone_and_elsewhere_stacked(caplog: pytest.LogCaptureFixture) -> None:
    jobs = jobs_of([configuration_of(number) for number in range(2)], layers=2)
    population = Population(BY_NAME["mlp"].task(), jobs, settings_of(), engine=Engine.CAPTURED)
    with caplog.at_level(logging.WARNING):
        list(population.run())
    words = "a step is captured on CUDA, not on cpu"
    assert [record.message for record in caplog.records] == [f"2 configurations' steps are not captured: {words}"]
    assert (population.trial.engine, population.trial.why) == (Engine.STACKED, words)
    assert_same_as_alone(BY_NAME["mlp"].task(), jobs, engine=Engine.CAPTURED)


def test_sharing_is_exact_bit_by_bit() -> None:
    task = BY_NAME["vit"].task()
    jobs = jobs_of([configuration_of(number) for number in range(3)], layers=2)
    evaluations, _ = trained_together(task, jobs)
    for evaluation, job in zip(evaluations, jobs, strict=True):
        assert evaluation.curve == train_serially(task, job, settings_of()).curve


@pytest.mark.parametrize("engine", ENGINES)
def test_one_that_diverges_in_the_middle_leaves_the_others_alone(engine: Engine) -> None:
    task = BY_NAME["mlp"].task(optimizer=torch.optim.SGD)
    wild = configuration_of(1, learning_rate=1e30, weight_decay=1.0)
    evaluations = assert_same_as_alone(
        task, jobs_of([configuration_of(0), wild, configuration_of(2)], layers=2), engine=engine
    )
    assert [each.status for each in evaluations] == [Status.FINISHED, Status.DIVERGED, Status.FINISHED]
    assert 0 < evaluations[1].cost.samples < evaluations[0].cost.samples


@pytest.mark.parametrize("engine", ENGINES)
def test_one_that_is_stopped_early_leaves_the_others_alone(engine: Engine) -> None:
    task = BY_NAME["resnet"].task()
    samples = (24, NUM_STEPS * BATCH_SIZE, 54)
    jobs = [
        dataclasses.replace(job, fidelity=dataclasses.replace(job.fidelity, samples=each))
        for job, each in zip(jobs_of([configuration_of(k) for k in range(3)], layers=2), samples, strict=True)
    ]
    evaluations = assert_same_as_alone(task, jobs, engine=engine)
    assert [each.cost.samples for each in evaluations] == [24, 80, 52]


@pytest.mark.parametrize("name", ["gpt", "resnet", "resnet of batch statistics", "skips"])
def test_one_prefix_pass_feeds_several_numbers_of_layers(name: str) -> None:
    task = BY_NAME[name].task()
    jobs = [
        dataclasses.replace(jobs_of([configuration_of(layers)], layers=layers)[0], rung=layers - 1)
        for layers in (3, 1, 4, 2)
    ]
    evaluations, _ = trained_together(task, jobs)
    for job in jobs:
        alone = train_serially(task, job, settings_of())
        assert_same(next(each for each in evaluations if each.request == job.request), alone)


class Counting(nn.Module):
    """Counts how often the frozen layers really run."""

    calls = 0

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        type(self).calls += 1
        result: Tensor = self.linear(x)
        return result


def test_the_prefix_runs_once_for_all() -> None:
    case = Case(
        name="counting",
        model=lambda: nn.Sequential(Counting(), nn.Linear(6, 6), nn.Linear(6, 3)),
        data=vectors,
        loss=nn.functional.cross_entropy,
        layers=(2,),
    )
    for size in (2, 6):
        jobs = jobs_of([configuration_of(number) for number in range(size)], layers=2)
        population = Population(case.task(), jobs, settings_of(num_validations=1), engine=Engine.SHARED)
        Counting.calls = 0
        assert len(list(population.run())) == size
        batches_of_validation = 3
        assert Counting.calls == NUM_STEPS + batches_of_validation


def test_a_member_that_raises_fails_alone() -> None:
    task = BY_NAME["mlp"].task()
    jobs = jobs_of([configuration_of(0), configuration_of(1, learning_rate=-1.0), configuration_of(2)], layers=2)
    evaluations, _ = trained_together(task, jobs)
    assert [each.status for each in evaluations] == [Status.FINISHED, Status.FAILED, Status.FINISHED]
    assert "learning_rate" in str(evaluations[1].reason) or "lr" in str(evaluations[1].reason)
    assert_same(evaluations[2], train_serially(task, jobs[2], settings_of()))


class Broken(torch.utils.data.Dataset[Any]):
    """Data that can no longer be read after a while."""

    def __init__(self) -> None:
        self.data = vectors(0)
        self.reads = 0

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Any:
        self.reads += 1
        if self.reads > 40:
            raise OSError(f"example {index} cannot be read")
        return self.data[index]


def test_data_that_cannot_be_read_fail_every_member() -> None:
    task = BY_NAME["mlp"].task(training_data=Broken(), data_fingerprint="broken", num_calibration_batches=1)
    evaluations, _ = trained_together(task, jobs_of([configuration_of(k) for k in range(2)], layers=2, samples=40))
    assert [each.status for each in evaluations] == [Status.FAILED] * 2
    assert "cannot be read" in str(evaluations[0].reason)


def test_tied_weights_that_follow_training_share_nothing() -> None:
    task = token_case("tied", gpt(tied=True), layers=(2,), options={"tied": "detach"}).task()
    with pytest.raises(CannotShareError, match="use tied='snapshot' to share"):
        Population(task, jobs_of([configuration_of(k) for k in range(2)], layers=2), settings_of())


class UsesItsEmbeddingTwice(nn.Module):
    """Its head is its embedding, the very module."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(32, 8)
        self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))
        self.norm = nn.LayerNorm(8)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.embedding(tokens)
        for block in self.blocks:
            hidden = torch.relu(block(hidden))
        return nn.functional.linear(self.norm(hidden), self.embedding.weight)


def test_a_module_that_is_used_twice_shares_nothing_and_says_what_would() -> None:
    task = token_case("used twice", UsesItsEmbeddingTwice, layers=(1,)).task()
    with pytest.raises(CannotShareError, match="a module of its own with the same weight to share"):
        Population(task, jobs_of([configuration_of(k) for k in range(2)], layers=1), settings_of())


class KeepsForItself(nn.Module):
    """Its first block leaves a feature behind that the last one reads: no output carries it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.second = nn.Linear(6, 6)
        self.last = nn.Linear(6, 3)
        self.first.register_forward_hook(lambda *_: None)
        self.first.forward = self._first  # type: ignore[method-assign]
        self.feature: Tensor | None = None

    def _first(self, x: Tensor) -> Tensor:
        self.feature = nn.functional.linear(x, self.first.weight, self.first.bias)
        return self.feature

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.first(x))
        assert self.feature is not None
        result: Tensor = self.last(x + self.feature.detach())
        return result


class Noisy(nn.Linear):
    """Noise that does not heed the mode, in a frozen layer: whoever is handed its output draws none of it."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(super().forward(x), 0.1, training=True)


def noisy() -> nn.Module:
    return nn.Sequential(Noisy(6, 6), nn.Linear(6, 6), nn.Dropout(0.2), nn.Linear(6, 3))


@pytest.mark.parametrize(
    "model",
    [
        KeepsForItself,
        noisy,
    ],
    ids=["side channel", "noise"],
)
def test_what_cannot_be_proven_is_refused(model: Any) -> None:
    case = Case(name="odd", model=model, data=vectors, loss=nn.functional.cross_entropy, layers=(1,))
    with pytest.raises(CannotShareError, match=r"computes something else|cannot be copied"):
        Population(case.task(), jobs_of([configuration_of(k) for k in range(2)], layers=1), settings_of())


def test_what_cannot_be_proven_is_refused_in_bfloat16_too() -> None:
    def model(_configuration: Configuration) -> nn.Module:
        return noisy().bfloat16()

    x, targets = vectors(0).tensors
    case = Case(name="odd", model=nn.Identity, data=vectors, loss=nn.functional.cross_entropy, layers=(1,))
    task = case.task(model=model, training_data=TensorDataset(x.bfloat16(), targets))
    with pytest.raises(CannotShareError, match="computes something else"):
        Population(task, jobs_of([configuration_of(k) for k in range(2)], layers=1), settings_of())


def test_a_frozen_weight_that_the_model_rescales_is_seen_before_anything_is_trained() -> None:
    def model() -> nn.Module:
        table = nn.Embedding(32, 6, max_norm=0.5)
        return nn.Sequential(table, nn.Flatten(), nn.Linear(48, 6), nn.Linear(6, 32))

    case = Case(
        name="rescaled",
        model=model,
        data=tokens,
        loss=lambda outputs, targets: nn.functional.cross_entropy(outputs, targets[:, 0]),
        layers=(1,),
    )
    with pytest.raises(CannotShareError, match=r"the model changes 0\.weight itself"):
        Population(case.task(), jobs_of([configuration_of(k) for k in range(2)], layers=1), settings_of())


def test_a_score_that_is_a_whole_number_shares_too() -> None:
    class Errors:
        """A task whose score is how many validation examples are taken for something else."""

        def __init__(self, task: Task) -> None:
            self._task = task

        def __getattr__(self, name: str) -> Any:
            return getattr(self._task, name)

        def score(self, model: nn.Module, batches: Any) -> int:
            return sum(int((model(x).argmax(1) != targets).sum()) for x, targets in batches)

    task: Any = Errors(BY_NAME["mlp"].task())
    jobs = jobs_of([configuration_of(k) for k in range(2)], layers=2)
    evaluations, _ = trained_together(task, jobs)
    for evaluation, job in zip(evaluations, jobs, strict=True):
        assert_same(evaluation, train_serially(task, job, settings_of()))


def test_a_score_that_reads_ahead_is_still_right() -> None:
    def task_score(outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs, targets)

    class ReadsAhead:
        """A task whose score takes all batches before it runs the model on the first."""

        def __init__(self, task: Task) -> None:
            self._task = task

        def __getattr__(self, name: str) -> Any:
            return getattr(self._task, name)

        def score(self, model: nn.Module, batches: Any) -> float:
            return self._task.score(model, list(batches))

    task: Any = ReadsAhead(BY_NAME["mlp"].task(score_function=task_score))
    jobs = jobs_of([configuration_of(k) for k in range(2)], layers=2)
    evaluations, _ = trained_together(task, jobs)
    for evaluation, job in zip(evaluations, jobs, strict=True):
        assert_same(evaluation, train_serially(task, job, settings_of()))


def continued(job: Job, *, samples: int) -> Job:
    path = (*job.continued_from, job.fidelity)
    fidelity = Fidelity(trainable_layers=job.fidelity.trainable_layers, samples=samples)
    return dataclasses.replace(job, rung=job.rung + 1, fidelity=fidelity, continued_from=path)


def test_members_go_on_from_checkpoints_and_those_without_are_made_again(tmp_path: Path) -> None:
    task = BY_NAME["resnet"].task()
    settings = settings_of(checkpoints=tmp_path)
    lower = jobs_of([configuration_of(k) for k in range(3)], layers=2, samples=32)
    trained_together(task, lower, settings)
    (next(path for path in tmp_path.rglob("000001-*.pt"))).unlink()
    higher = [continued(job, samples=80) for job in lower]
    evaluations, _ = trained_together(task, higher, settings)
    assert [each.cost.samples for each in evaluations] == [48, 80, 48]
    for evaluation, job in zip(evaluations, higher, strict=True):
        alone = train_serially(task, job, settings_of())
        assert [point.score for point in evaluation.curve] == pytest.approx(
            [point.score for point in alone.curve], rel=1e-9
        )


def test_statistics_of_every_batch_are_not_shared_by_those_that_go_on_from_other_places(tmp_path: Path) -> None:
    task = BY_NAME["resnet of batch statistics"].task()
    settings = settings_of(checkpoints=tmp_path, horizon="full")
    [first, second] = jobs_of([configuration_of(k) for k in range(2)], layers=2, samples=32)
    train_serially(task, dataclasses.replace(first, may_continue=True), settings)
    with pytest.raises(CannotShareError, match="after 0 and 32 samples"):
        Population(task, [continued(first, samples=80), continued(second, samples=80)], settings)


def test_serial_training_goes_on_from_a_populations_checkpoint(tmp_path: Path) -> None:
    task = BY_NAME["gpt"].task()
    settings = settings_of(checkpoints=tmp_path)
    lower = jobs_of([configuration_of(k) for k in range(2)], layers=2, samples=32)
    trained_together(task, lower, settings)
    job = continued(lower[1], samples=80)
    evaluation = train_serially(task, job, settings)
    assert evaluation.cost.samples == 48
    assert evaluation.curve == train_serially(task, job, settings_of()).curve


def test_seconds_add_up_and_progress_is_told() -> None:
    seen: list[Progress] = []
    jobs = jobs_of([configuration_of(k) for k in range(3)], layers=2)
    population = Population(BY_NAME["gpt"].task(), jobs, settings_of(), engine=Engine.SHARED, observe=seen.append)
    evaluations = list(population.run())
    assert all(each.cost.seconds > 0 for each in evaluations)
    assert [each.samples for each in seen] == list(range(0, NUM_STEPS * BATCH_SIZE + 1, BATCH_SIZE))
    assert {(each.members, each.budget, each.engine, each.started) for each in seen} == {
        (3, NUM_STEPS * BATCH_SIZE, Engine.SHARED, 0)
    }


def test_the_generators_of_others_are_left_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    population = Population(
        BY_NAME["gpt with dropout"].task(),
        jobs_of([configuration_of(k) for k in range(2)], layers=2),
        settings_of(),
    )
    assert torch.equal(torch.get_rng_state(), before)
    for _ in population.run():
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(torch.get_rng_state(), before)


def test_frozen_tensors_are_there_once() -> None:
    jobs = jobs_of([configuration_of(k) for k in range(4)], layers=1)
    population = Population(BY_NAME["resnet"].task(), jobs, settings_of())
    models = [course.session.model for course in population._living]
    frozen, trained = set(), set()
    for model in models:
        freezing = freezing_of(model)
        assert freezing is not None
        inside = [model.get_submodule(name) for layer in freezing.frozen_layers for name in layer.modules]
        frozen.add(
            tuple(tensor.data_ptr() for module in inside for tensor in (*module.parameters(), *module.buffers()))
        )
        trained |= {parameter.data_ptr() for parameter in model.parameters() if parameter.requires_grad}
    assert len(frozen) == 1
    assert len(trained) == 4 * 2


def test_the_engine_is_measured_and_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    jobs = jobs_of([configuration_of(k) for k in range(3)], layers=2)
    population = Population(BY_NAME["mlp"].task(), jobs, settings_of())
    list(population.run())
    assert population.trial.engine in ENGINES
    assert "ms" in population.trial.why
    assert any(f"engine {population.trial.engine}" in record.getMessage() for record in caplog.records)


def test_who_leaves_takes_its_memory_along() -> None:
    task = BY_NAME["mlp"].task(
        optimizer=torch.optim.SGD, defaults={**BY_NAME["mlp"].task().defaults, "momentum": 0.9}
    )
    wild = configuration_of(1, learning_rate=1e30, weight_decay=1.0)
    population = Population(
        task, jobs_of([configuration_of(0), wild], layers=2), settings_of(), engine=Engine.SHARED
    )
    sessions = {course.job.configuration.number: course.session for course in population._living}
    first = next(population.run())
    assert (first.number, first.status) == (1, Status.DIVERGED)
    assert sum(parameter.numel() for parameter in sessions[1].parameters) == 0
    assert not sessions[1].optimizer.state
    assert all(parameter.numel() for parameter in sessions[0].parameters)


def test_the_peak_is_asked_for_when_a_member_ends_and_not_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.device] = []
    monkeypatch.setattr(population_module, "peak_bytes", asked.append)
    jobs = jobs_of([configuration_of(number) for number in range(2)], layers=2)
    evaluations, _ = trained_together(BY_NAME["mlp"].task(), jobs)
    assert len(asked) == len(evaluations)
