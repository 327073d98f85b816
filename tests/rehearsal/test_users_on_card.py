"""What users bring to a card: data and default devices that are there, trainers of other libraries, loops of their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import frostline
from frostline.layers.weights.weight_file import WeightFile, WeightFileWriter
from frostline.populations.engines import Engine
from frostline.populations.population import Population
from frostline.populations.prefix.prefix_store import PrefixStore
from frostline.records import Configuration, Fidelity
from frostline.run.execution.options import TrainingOptions
from frostline.run.plan import SearchPlan
from frostline.run.tuning import tune_task
from frostline.store.backends.storage import MEMORY
from frostline.training.machine.devices import move_batch
from frostline.training.serial import train_model, train_serially
from frostline.training.supervised.supervised_task import SupervisedTask
from tests.populations.cases import Case, configuration_of, jobs_of, mlp, vectors
from tests.rehearsal.cases import BY_NAME, CARD, ON_A_CARD, SAMPLES, assert_same_evaluation
from tests.training.cases import CPU, settings_of

pytestmark = ON_A_CARD

DATA, DEFAULT = "the data", "the default device"


@pytest.fixture(params=[(DATA,), (DEFAULT,), (DATA, DEFAULT)], ids=lambda there: " and ".join(there))
def there(request: pytest.FixtureRequest) -> Iterator[Any]:
    """What is on the card. The default device is put there after the task has been made."""
    yield request.param
    torch.set_default_device(None)


def on_card(rows: Any) -> TensorDataset:
    return TensorDataset(*(tensor.to(CARD) for tensor in rows.tensors))


def task_of(name: str, there: tuple[str, ...], **changes: Any) -> SupervisedTask:
    task = BY_NAME[name].task(**changes)
    if DATA in there:
        data = {"training_data": on_card(task.training_data), "validation_data": on_card(task.validation_data)}
        task = BY_NAME[name].task(**data, **changes)
    if DEFAULT in there:
        torch.set_default_device(CARD)
    return task


@pytest.mark.parametrize("name", ["gpt", "resnet"])
def test_one_by_one_they_give_the_numbers_of_data_on_the_host(name: str, there: tuple[str, ...]) -> None:
    (job,) = jobs_of([configuration_of(1)], layers=2, samples=SAMPLES)
    settings = settings_of(CARD, num_validations=1)
    expected = train_serially(BY_NAME[name].task(), job, settings)
    if DEFAULT in there:
        # A model that is made on the card begins with what the card draws.
        assert train_serially(task_of(name, there), job, settings).score is not None
    else:
        assert_same_evaluation(train_serially(task_of(name, there), job, settings), expected)


@pytest.mark.parametrize("engine", [Engine.SHARED, Engine.STACKED])
@pytest.mark.parametrize("name", ["gpt", "resnet"])
def test_together_they_give_the_numbers_of_serial_training(
    name: str, engine: Engine, there: tuple[str, ...]
) -> None:
    task, settings = task_of(name, there), settings_of(CARD, num_validations=1)
    jobs = jobs_of([configuration_of(number) for number in range(2)], layers=2, samples=SAMPLES)
    store = PrefixStore(training_bytes=2**20, validation_bytes=2**20) if engine is Engine.SHARED else None
    together = sorted(Population(task, jobs, settings, engine=engine, store=store).run(), key=lambda e: e.number)
    for evaluation, job in zip(together, jobs, strict=True):
        assert_same_evaluation(evaluation, train_serially(task, job, settings))


def test_they_are_searched(tmp_path: Path, there: tuple[str, ...]) -> None:
    task = task_of("resnet", there, full_samples=160)
    training = TrainingOptions(device="cuda", runs=tmp_path)
    result = tune_task(task, study="search", storage=MEMORY, plan=SearchPlan(budget=3), training=training)
    assert result.score is not None


@pytest.mark.parametrize("library", ["lightning", "transformers"])
@pytest.mark.parametrize("engine", [Engine.SHARED, Engine.STACKED])
def test_tasks_made_of_trainers_give_the_numbers_of_serial_training(library: str, engine: Engine) -> None:
    pytest.importorskip(library)
    task = a_trainers_task(library)
    samples = 4 * task.batch_size * task.samples_per_example
    configurations = [Configuration(number=number, hyperparameters=dict(task.defaults)) for number in range(2)]
    jobs = jobs_of(configurations, layers=2, samples=samples)
    settings = settings_of(CARD)
    for evaluation in Population(task, jobs, settings, engine=engine).run():
        alone = train_serially(task, jobs[evaluation.number], settings)
        assert evaluation.score == pytest.approx(alone.score, rel=1e-5)


def a_trainers_task(library: str) -> SupervisedTask:
    if library == "lightning":
        from tests.integrations.lightning.lightning_modules import Plain, task_of

        return task_of(lambda _: Plain())
    from tests.integrations.transformers.test_transformers_task import task_of as of_trainer
    from tests.integrations.transformers.test_transformers_task import trainer

    return of_trainer(trainer)


@pytest.mark.parametrize("moves", ["before it is frozen", "after it is frozen"])
def test_an_objective_may_move_its_model_and_goes_on_with_it(moves: str, tmp_path: Path) -> None:
    inputs = torch.randn(120, 8, generator=torch.Generator().manual_seed(0))
    rows = TensorDataset(inputs, inputs.sum(1).gt(0).long())
    loader = DataLoader(rows, batch_size=20, shuffle=True)

    def build_model() -> nn.Module:
        hidden = [nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1)) for _ in range(3)]
        return nn.Sequential(*hidden, nn.Linear(8, 2))

    def objective(trial: frostline.Trial) -> float:
        model = build_model()
        if moves == "before it is frozen":
            model.to(CARD)
        trial.freeze(model)
        model.to(CARD)
        optimizer = torch.optim.AdamW(trial.parameters, lr=trial.suggest_float("rate", 1e-3, 1e-1, log=True))
        if trial.resumed is not None:
            model.load_state_dict(trial.resumed["model"])
            optimizer.load_state_dict(trial.resumed["optimizer"])
        for batch, targets in trial.batches(loader):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(batch.to(CARD)), targets.to(CARD)).backward()
            optimizer.step()
            trial.checkpoint({"model": model.state_dict(), "optimizer": optimizer.state_dict()})
        return score_of(model)

    def score_of(model: nn.Module) -> float:
        model.eval()
        with torch.no_grad():
            outputs = model(rows.tensors[0].to(CARD))
            return nn.functional.cross_entropy(outputs, rows.tensors[1].to(CARD)).item()

    result = frostline.tune(
        objective, samples=400, budget=3, study="s", storage=":memory:", runs=tmp_path, observer=frostline.SILENT
    )
    assert result.score == pytest.approx(score_of(result.load_model(build_model()).to(CARD)), rel=1e-6)


def test_a_batch_that_goes_to_the_cpu_is_there_when_it_is_read() -> None:
    batch = torch.arange(4.0, device=CARD)
    # Without waiting torch would hand out pinned memory that the card has yet to fill.
    moved = move_batch({"inputs": batch}, CPU)["inputs"]
    assert not moved.is_pinned()
    assert moved.tolist() == [0, 1, 2, 3]


def test_a_weight_of_no_elements_is_read_onto_the_host(tmp_path: Path) -> None:
    with WeightFileWriter(tmp_path / "weights", {"none": ((0, 4), torch.float32)}, {}) as writer:
        writer.write("none", torch.empty(0, 4, device="cpu"))
        writer.finish()
    torch.set_default_device(CARD)
    try:
        read = WeightFile.open(tmp_path / "weights").tensor("none")
    finally:
        torch.set_default_device(None)
    assert (read.device, read.shape) == (CPU, (0, 4))


class Remembering(nn.Module):
    """Keeps means in a tensor that is no buffer, in a list, and in parameters that nobody trains."""

    def __init__(self) -> None:
        super().__init__()
        self.student, self.teacher = mlp(), mlp().requires_grad_(False)
        self.mean: torch.Tensor | None = None
        self.means: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> Any:
        if self.training:
            self.mean = x.mean(0) if self.mean is None else 0.9 * self.mean + 0.1 * x.mean(0)
            self.means = [self.mean]
            with torch.no_grad():
                for mean, weight in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
                    mean.mul_(0.9).add_(weight, alpha=0.1)
        mean = 0.0 if self.mean is None else self.mean
        return self.student(x - mean) + self.teacher(x - (self.means or [0.0])[0])


@pytest.mark.parametrize("keep_best", [False, True])
def test_what_a_model_keeps_of_itself_goes_on_on_the_card(keep_best: bool, tmp_path: Path) -> None:
    case = Case(name="own", model=Remembering, data=vectors, loss=nn.functional.cross_entropy, layers=())
    task = case.task(keep_best=keep_best)
    [lower] = jobs_of([configuration_of(0)], layers=5, samples=24)
    higher = replace(
        lower, rung=1, fidelity=Fidelity(trainable_layers=5, samples=48), continued_from=(lower.fidelity,)
    )
    settings = settings_of(CARD, checkpoints=tmp_path, horizon="full")
    train_serially(task, lower, settings)
    resumed = train_serially(task, higher, settings)
    assert resumed.cost.samples == 24
    assert_same_evaluation(resumed, train_serially(task, higher, settings_of(CARD, horizon="full")))
    evaluation, model = train_model(task, lower.configuration, higher.fidelity, settings_of(CARD, horizon="full"))
    with torch.no_grad():
        batches = [move_batch(batch, CARD) for batch in task.validation_batches(lower.configuration)]
        assert task.score(model.eval(), batches) == pytest.approx(evaluation.score, rel=1e-9)
