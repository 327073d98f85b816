"""Trainings on a CUDA device give the CPU's numbers, and no step waits for the device.

Without a card they run on one of host memory (``test_rehearsal``), where the numbers are the same bit by bit.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset
from torch.utils.flop_counter import FlopCounterMode

from frostline.layers import freeze
from frostline.layers.cutting.execution import Inputs
from frostline.populations.engines import Engine
from frostline.populations.population import Population
from frostline.populations.prefix.prefix_store import PrefixStore
from frostline.populations.stacking import stacked_outcome
from frostline.populations.stacking.stacked import StackedStep
from frostline.records import Fidelity, Job, Status
from frostline.run.execution.options import TrainingOptions
from frostline.run.plan import SearchPlan
from frostline.run.tuning import tune_task
from frostline.search.ladder import Ladder
from frostline.training.course import checkpoints_of, kept_models_of
from frostline.training.machine.devices import DevicePlan, move_batch
from frostline.training.serial import train_model, train_serially
from frostline.training.session import Session, begin_session
from frostline.training.steps.optimizers import offered_optimizers
from tests.layers.models import FAMILY_CASES
from tests.layers.models import Case as FamilyCase
from tests.populations.cases import BATCH_SIZE, CASES, DEFAULTS, Case, configuration_of, jobs_of
from tests.rehearsal.cases import (
    BY_NAME,
    CARD,
    ON_A_CARD,
    SAMPLES,
    assert_same_evaluation,
    assert_same_on_both,
    assert_same_weights,
    is_rehearsed,
    no_waiting,
    session_on_card,
    step_on_card,
    task_layers,
)
from tests.training.cases import CPU, Drawing, settings_of

pytestmark = ON_A_CARD

EVERY_CASE = [pytest.param(case, layers, id=f"{case.name}-{layers}") for case in CASES for layers in case.layers]
# What torch's own optimizers read or make on the host in their first step or in each (torch 2.13).
WAIT_BY_THEMSELVES = ("ASGD", "Adafactor", "Rprop")
UNWATCHED_STEP = Session.step
ENGINES = [Engine.SHARED, Engine.STACKED]


def without_dropout(case: Case) -> bool:
    """Whether a card, whose generator is another, has nothing to draw."""
    return case.name not in ("gpt with dropout", "mlp", "vit")


@pytest.mark.parametrize(("case", "layers"), EVERY_CASE)
def test_serial_training_gives_the_numbers_of_the_cpu(case: Case, layers: int) -> None:
    if not without_dropout(case) and not is_rehearsed():
        pytest.skip("a card draws other numbers than a CPU")
    assert_same_on_both(case.task(), layers=layers)


@pytest.mark.parametrize("placement", ["device", "stream"])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("name", ["gpt", "gpt tied", "resnet"])
def test_frozen_weights_kept_small_give_the_numbers_of_the_cpu(
    name: str, dtype: torch.dtype | None, placement: Any
) -> None:
    task = BY_NAME[name].task(frozen_dtype=dtype, frozen_placement=placement)
    assert_same_on_both(task, layers=2)


def test_chunked_logits_give_the_numbers_of_the_cpu() -> None:
    assert_same_on_both(BY_NAME["gpt"].task(chunked_logits=True), layers=2)


def test_augmented_examples_give_the_numbers_of_the_cpu() -> None:
    def noisy(inputs: Tensor, generator: torch.Generator) -> Tensor:
        return inputs + torch.randn(inputs.shape, generator=generator, dtype=inputs.dtype)

    assert_same_on_both(BY_NAME["skips"].task(augment=noisy), layers=2)


def test_batches_that_are_fetched_ahead_give_the_numbers_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frostline.training.supervised.feed._WORTH_STARTING", 0.0)
    data = Drawing(BY_NAME["skips"].data(0))
    task = BY_NAME["skips"].task(training_data=data, data_fingerprint="drawing", num_workers=1)
    assert_same_on_both(task, layers=2)


WEIGHT = torch.tensor([1.0, 5.0, 0.2], dtype=torch.float64)
LOSSES = {
    "module": nn.CrossEntropyLoss(weight=WEIGHT),
    "partial": functools.partial(nn.functional.cross_entropy, weight=WEIGHT),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("loss", LOSSES)
def test_weights_of_classes_give_the_numbers_of_serial_training(loss: str, engine: Engine) -> None:
    task, settings = BY_NAME["skips"].task(loss_function=LOSSES[loss]), settings_of(CARD, num_validations=1)
    jobs = jobs_of([configuration_of(number) for number in range(2)], layers=2, samples=SAMPLES)
    together = sorted(Population(task, jobs, settings, engine=engine).run(), key=lambda each: each.number)
    for evaluation, job in zip(together, jobs, strict=True):
        assert_same_evaluation(evaluation, train_serially(task, job, settings))


@pytest.mark.parametrize("loss", LOSSES)
def test_weights_of_classes_give_the_numbers_of_the_cpu_and_no_step_waits_for_them(loss: str) -> None:
    task = BY_NAME["resnet"].task(loss_function=LOSSES[loss])
    assert_same_on_both(task, layers=2)
    assert WEIGHT.device.type == "cpu"
    session = session_on_card(task, layers=2)
    batches = task.training_batches(session.configuration, seed=0, skip_samples=0)
    session.step(next(batches), rate_factor=1.0)
    on_card = move_batch(next(batches), CARD)
    with no_waiting():
        task.loss(session.model, on_card).backward()


def test_a_metric_of_torchmetrics_gives_the_numbers_of_the_cpu() -> None:
    metrics = pytest.importorskip("torchmetrics.classification")
    task = BY_NAME["resnet"].task(score_function=metrics.MulticlassF1Score(3), direction="maximize")
    assert_same_on_both(task, layers=2)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_best_of_a_training_is_kept_on_the_host_and_loaded_on_the_card(engine: Engine) -> None:
    task = BY_NAME["resnet"].task(keep_best=True, schedule=lambda _: lambda share: 1.0 if share < 0.5 else -10.0)
    jobs = jobs_of([configuration_of(number) for number in range(2)], layers=3, samples=4 * BATCH_SIZE)
    there, here = (settings_of(device, num_validations=4) for device in (CARD, CPU))
    together = sorted(Population(task, jobs, there, engine=engine).run(), key=lambda each: each.number)
    for evaluation, job in zip(together, jobs, strict=True):
        given = task, job.configuration, job.fidelity
        (on_card, their_model), (on_host, our_model) = train_model(*given, there), train_model(*given, here)
        assert_same_evaluation(evaluation, on_card)
        assert_same_evaluation(on_card, on_host)
        assert len({point.score for point in on_card.curve}) < len(on_card.curve)
        assert_same_weights(their_model.state_dict(), our_model.state_dict())
        assert {value.device.type for value in their_model.state_dict().values()} == {"cuda"}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("case", "layers"), EVERY_CASE)
def test_populations_give_the_numbers_of_serial_training(case: Case, layers: int, engine: Engine) -> None:
    jobs = jobs_of([configuration_of(number) for number in range(2)], layers=layers, samples=SAMPLES)
    settings = settings_of(CARD, num_validations=1)
    together = sorted(Population(case.task(), jobs, settings, engine=engine).run(), key=lambda each: each.number)
    for evaluation, job in zip(together, jobs, strict=True):
        assert_same_evaluation(evaluation, train_serially(case.task(), job, settings))


@pytest.mark.parametrize("in_file", [False, True], ids=["memory", "file"])
@pytest.mark.parametrize("name", ["gpt", "resnet"])
def test_kept_outputs_give_the_numbers_of_serial_training(name: str, in_file: bool, tmp_path: Path) -> None:
    task = BY_NAME[name].task()
    # Of 20 examples: the second epoch is handed back, by parts of batches and by whole ones.
    jobs = jobs_of([configuration_of(number) for number in range(2)], layers=2, samples=11 * BATCH_SIZE)
    settings = settings_of(CARD, num_validations=2)
    store = PrefixStore(training_bytes=2**20, validation_bytes=2**20, directory=tmp_path if in_file else None)
    population = Population(task, jobs, settings, engine=Engine.SHARED, store=store)
    together = sorted(population.run(), key=lambda each: each.number)
    for evaluation, job in zip(together, jobs, strict=True):
        assert_same_evaluation(evaluation, train_serially(task, job, settings))


def test_checkpoints_are_read_on_the_cpu_and_gone_on_with_on_the_card(tmp_path: Path) -> None:
    task, settings = BY_NAME["resnet"].task(), settings_of(CARD, checkpoints=tmp_path, horizon="full")
    fidelities = [Fidelity(trainable_layers=2, samples=each * BATCH_SIZE) for each in (2, 4)]
    first = Job(configuration=configuration_of(1), rung=0, fidelity=fidelities[0], may_continue=True)
    following = dataclasses.replace(first, rung=1, fidelity=fidelities[1], continued_from=(fidelities[0],))
    train_serially(task, first, settings)
    checkpoints = checkpoints_of(task, settings)
    assert checkpoints is not None
    (file,) = checkpoints.folder.names()
    (contents,) = checkpoints._whole(key_named(file), dict)
    assert {each.device.type for each in contents["model"].values()} == {"cpu"}
    assert {each.device.type for state in contents["optimizer"]["state"].values() for each in state.values()} == {
        "cpu"
    }
    straight = train_serially(task, following, dataclasses.replace(settings, folder=None))
    assert_same_evaluation(train_serially(task, following, settings), straight)


def key_named(name: str) -> Any:
    """What stands for the key of a file."""
    return type("Key", (), {"stem": name.split(".")[0]})()


@pytest.mark.parametrize("name", sorted(offered_optimizers()))
def test_every_optimizer_steps_on_the_card(name: str) -> None:
    if name == "Muon":
        pytest.skip("takes matrices alone")
    step = UNWATCHED_STEP if name in WAIT_BY_THEMSELVES else Session.step
    task = BY_NAME["mlp"].task(optimizer=offered_optimizers()[name], defaults={**DEFAULTS})
    session = session_on_card(task, layers=2)
    batches = task.training_batches(session.configuration, seed=0, skip_samples=0)
    for _ in range(2):
        step(session, next(batches), rate_factor=1.0)
    states = [each for state in session.optimizer.state.values() for each in state.values()]
    places = {each.device.type for each in states if isinstance(each, Tensor) and each.dim() > 0}
    assert places <= {"cuda"}


def in_float32(data: TensorDataset) -> TensorDataset:
    return TensorDataset(*(each.float() if each.is_floating_point() else each for each in data.tensors))


@pytest.mark.parametrize("name", ["gpt", "resnet", "vit"])
def test_a_step_in_bfloat16_keeps_what_it_trains_in_its_type(name: str) -> None:
    case = BY_NAME[name]
    data = {"training_data": in_float32(case.data(0)), "validation_data": in_float32(case.data(1))}
    task = case.task(model=lambda _: case.model(), **data)
    session = session_on_card(task, layers=2, compute_dtype=torch.bfloat16)
    batch = next(task.training_batches(session.configuration, seed=0, skip_samples=0))
    session.step(batch, rate_factor=1.0)
    assert {parameter.dtype for parameter in session.parameters} == {torch.float32}


@pytest.mark.parametrize("family", FAMILY_CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_every_family_is_frozen_and_trained_on_the_card(family: FamilyCase) -> None:
    model: Any = family.build().to(CARD)
    inputs: Inputs = move_batch(family.inputs(), CARD)
    freezing = freeze(model, trainable_layers=2, example_inputs=inputs)
    if freezing.needs_calibration:
        freezing.calibrate([inputs])
    optimizer = torch.optim.AdamW(freezing.trainable_parameters)
    # In transformers' own, a window that slides is copied to the device while the host waits.
    with nullcontext() if family.name == "mistral" else no_waiting():
        outputs = model(**inputs)
        loss = outputs.sum() if isinstance(outputs, Tensor) else outputs[0].float().square().mean()
        loss.backward()
        nn.utils.clip_grad_norm_(freezing.trainable_parameters, 1.0)
        optimizer.step()
    assert {each.grad.device.type for each in freezing.trainable_parameters if each.grad is not None} == {"cuda"}


def test_a_model_trained_in_full_is_kept_and_read_on_the_cpu(tmp_path: Path) -> None:
    task, settings = BY_NAME["resnet"].task(full_samples=SAMPLES), settings_of(CARD, checkpoints=tmp_path)
    (job,) = jobs_of([configuration_of(1)], layers=task_layers(task), samples=SAMPLES)
    evaluation = train_serially(task, job, settings)
    models = kept_models_of(task, settings)
    assert models is not None
    model = models.load(job.configuration, task.build_model(job.configuration))
    assert {each.device.type for each in model.state_dict().values()} == {"cpu"}
    session = session_on_card(task, layers=task_layers(task))
    session.model.load_state_dict(model.state_dict())
    assert session.score() == pytest.approx(evaluation.score, rel=1e-9)


def test_a_diverging_loss_is_found_though_it_is_read_late() -> None:
    task = BY_NAME["skips"].task(optimizer=torch.optim.SGD)
    (job,) = jobs_of([configuration_of(1, learning_rate=1e30)], layers=3)
    there = train_serially(task, job, settings_of(CARD))
    assert_same_evaluation(there, train_serially(task, job, settings_of(CPU)))
    assert there.status is Status.DIVERGED


@pytest.mark.parametrize("engine", ["auto", "serial"])
def test_a_whole_search_runs_on_the_card(engine: str, tmp_path: Path) -> None:
    task = BY_NAME["skips"].task()
    result = tune_task(
        task,
        study="rehearsed",
        ladder=Ladder.diagonal(num_layers=task_layers(task), full_samples=task.full_samples, num_rungs=2),
        plan=SearchPlan(configurations=4),
        training=TrainingOptions(device="cuda", engine=engine, runs=tmp_path),
        storage=f"sqlite:///{tmp_path}/studies.db",
    )
    assert result.best.fidelity.samples == task.full_samples


def test_the_flops_of_a_score_are_those_counted_on_the_cpu() -> None:
    # A mean over batches is put together with ``torch.tensor`` on the device, below the mode that counts.
    task = BY_NAME["skips"].task()
    there = session_on_card(task, layers=2)
    here = begin_session(
        task, there.configuration, trainable_layers=2, device_plan=DevicePlan(device=CPU), root_seed=7
    )
    flops = []
    for session in (there, here):
        with FlopCounterMode(display=False) as counter:
            session.score()
        flops.append(counter.get_total_flops())
    assert flops[0] == flops[1] > 0


def test_a_loss_that_is_made_for_every_element_first_is_summed() -> None:
    drawn = torch.randn(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    there, here = (nn.functional.mse_loss(*drawn.to(device)) for device in (CARD, CPU))
    assert there.shape == ()
    torch.testing.assert_close(there.cpu(), here)


@pytest.mark.parametrize("engine", [Engine.SERIAL, *ENGINES])
@pytest.mark.parametrize("pins", [True, False], ids=["pinned", "pageable"])
def test_batches_come_from_pinned_memory(pins: bool, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    if not is_rehearsed():
        pytest.skip("a card does not say where its copies come from")
    from tests.rehearsal.card_state import WAITS

    copies = 0

    def counted(step: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*args: Any, **kwargs: Any) -> Any:
            nonlocal copies
            before = WAITS.seen["copy_ from pageable memory"]
            result = step(*args, **kwargs)
            copies += WAITS.seen["copy_ from pageable memory"] - before
            return result

        return counting

    monkeypatch.setattr(Session, "step", counted(Session.step))
    monkeypatch.setattr(StackedStep, "step", counted(StackedStep.step))
    task, plan = BY_NAME["mlp"].task(), DevicePlan(device=CARD, pins_batches=pins)
    jobs = jobs_of([configuration_of(number) for number in range(2)], layers=5, samples=SAMPLES)
    settings = dataclasses.replace(settings_of(num_validations=1), device_plan=plan)
    if engine is Engine.SERIAL:
        train_serially(task, jobs[0], settings)
    else:
        list(Population(task, jobs, settings, engine=engine).run())
    assert (copies == 0) is pins


class TestPlantedFaults:
    """What a person could get wrong with no card at hand is found without one."""

    def test_a_cpu_tensor_in_the_step(self) -> None:
        def weighted(outputs: Tensor, targets: Tensor) -> Tensor:
            return nn.functional.cross_entropy(outputs, targets, weight=torch.ones(3, dtype=torch.float64))

        with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
            step_on_card(BY_NAME["skips"].task(loss_function=weighted))

    def test_a_read_in_the_step(self) -> None:
        def reading(outputs: Tensor, targets: Tensor) -> Tensor:
            loss = nn.functional.cross_entropy(outputs, targets)
            return loss if loss.item() < 100 else loss / 2

        with pytest.raises(RuntimeError, match="called a synchronizing CUDA operation"):
            step_on_card(BY_NAME["skips"].task(loss_function=reading))

    def test_a_generator_of_the_wrong_device(self, monkeypatch: pytest.MonkeyPatch) -> None:
        make = torch.Generator
        monkeypatch.setattr(stacked_outcome.torch, "Generator", lambda _device="cpu": make())
        jobs = jobs_of([configuration_of(number) for number in range(2)], layers=2, samples=SAMPLES)
        population = Population(BY_NAME["skips"].task(), jobs, settings_of(CARD), engine=Engine.STACKED)
        with pytest.raises(RuntimeError, match="Expected a 'cuda' device type for generator but found 'cpu'"):
            list(population.run())

    def test_a_checkpoint_mapped_to_the_wrong_place(self) -> None:
        def in_its_place(optimizer: torch.optim.Optimizer, contents: Any) -> None:
            for parameter, state in zip(
                optimizer.param_groups[0]["params"], contents["state"].values(), strict=True
            ):
                optimizer.state[parameter] = {name: value.cpu() for name, value in state.items()}

        task = BY_NAME["skips"].task()
        session = session_on_card(task, layers=2)
        batch = next(task.training_batches(session.configuration, seed=0, skip_samples=0))
        session.step(batch, rate_factor=1.0)
        in_its_place(session.optimizer, session.checkpoint().optimizer)
        with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
            session.step(batch, rate_factor=1.0)
