"""Jobs become populations: none is lost, and what was too much is not tried again."""

from __future__ import annotations

import copy
import dataclasses
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

import frostline
from frostline import SearchPlan, TrainingOptions
from frostline.populations.footprint import Footprint, even_share, footprint_of
from frostline.populations.packing import Packing
from frostline.populations.population import Population
from frostline.populations.prefix.cannot_share import CannotShareError
from frostline.populations.programs import Program
from frostline.records import Configuration, Cost, Evaluation, Fidelity, Job, Progress, Status
from frostline.run.execution.executors import PopulationExecutor
from frostline.run.view.event_lines import progress_line
from frostline.training.session import begin_session
from tests.executing import Watching, evaluations_by
from tests.populations.cases import CASES, configuration_of, gpt, jobs_of, token_case
from tests.training.cases import settings_of

BY_NAME = {case.name: case for case in CASES}
NUM_LAYERS = 4


def program_of(configuration: Configuration) -> Program:
    return Program(hyperparameters=(("batch_size", configuration.get("batch_size", 1)),))


def job(number: int, *, layers: int = 1, batch_size: int = 1) -> Job:
    configuration = Configuration(number=number, hyperparameters={"batch_size": batch_size})
    return Job(
        configuration=configuration, rung=layers - 1, fidelity=Fidelity(trainable_layers=layers, samples=10)
    )


def evaluation_of(job: Job, status: Status = Status.FINISHED) -> Evaluation:
    return Evaluation(
        number=job.configuration.number,
        rung=job.rung,
        fidelity=job.fidelity,
        status=status,
        score=1.0 if status is Status.FINISHED else None,
        cost=Cost(seconds=1.0, samples=10),
        reason=None if status is Status.FINISHED else "alone",
    )


class Fits:
    """Stands for populations on a device that has room for so many members; keeps what it was asked for."""

    def __init__(self, most: int, *, after: int = 0) -> None:
        self.most = most
        self.after = after
        self.sizes: list[int] = []

    def __call__(self, jobs: Sequence[Job]) -> Population:
        self.sizes.append(len(jobs))
        room, after = self.most, self.after

        class Some:
            size = len(jobs)

            def run(self) -> Iterator[Evaluation]:
                for done, each in enumerate(jobs):
                    if self.size > room and done == after:
                        raise torch.OutOfMemoryError("no room")
                    yield evaluation_of(each)

        return Some()  # type: ignore[return-value]


def executor_of(populate: Fits | type[Exception]) -> PopulationExecutor:
    def refuse(jobs: Sequence[Job]) -> Population:
        assert isinstance(populate, type)
        raise populate("not possible")

    return PopulationExecutor(
        populate=populate if isinstance(populate, Fits) else refuse,
        evaluate=lambda job: evaluation_of(job, Status.DIVERGED),
        packing=Packing(program_of=program_of, num_layers=NUM_LAYERS),
        capacity=8,
    )


@settings(max_examples=20)
@given(
    jobs=st.lists(st.tuples(st.integers(1, NUM_LAYERS), st.integers(1, 2)), max_size=20),
    most=st.integers(1, 20),
    after=st.integers(0, 3),
)
@example(jobs=[(2, 1), (1, 1), (2, 1), (3, 1), (4, 1)], most=1, after=0)  # different layers, and too many of them
def test_every_job_is_evaluated_once(jobs: list[tuple[int, int]], most: int, after: int) -> None:
    asked = [job(number, layers=layers, batch_size=size) for number, (layers, size) in enumerate(jobs)]
    ended = list(evaluations_by(executor_of(Fits(most, after=after)), asked))
    assert sorted(each.request for each in ended) == sorted(each.request for each in asked)


def test_what_ran_out_of_memory_is_halved_and_remembered(caplog: pytest.LogCaptureFixture) -> None:
    fits = Fits(most=2)
    executor = executor_of(fits)
    assert len(list(evaluations_by(executor, [job(number) for number in range(8)]))) == 8
    assert fits.sizes == [8, 4, 2, 2, 2, 2]
    assert len(list(evaluations_by(executor, [job(number) for number in range(8, 12)]))) == 4
    assert fits.sizes[6:] == [2, 2]
    assert "memory ran out with 8 configurations together" in caplog.text


def test_what_has_ended_before_memory_ran_out_is_not_made_again() -> None:
    ended = list(evaluations_by(executor_of(Fits(most=2, after=1)), [job(number) for number in range(4)]))
    assert sorted(each.number for each in ended) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("error", "said"), [(CannotShareError, "one by one: not possible"), (KeyError, "KeyError: 'not possible'")]
)
def test_what_cannot_be_trained_together_is_trained_alone_and_said_once(
    error: type[Exception], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    executor = executor_of(error)
    for numbers in (range(3), range(3, 6)):
        ended = list(evaluations_by(executor, [job(number) for number in numbers]))
        assert [each.reason for each in ended] == ["alone"] * 3
    assert len([record for record in caplog.records if said in record.getMessage()]) == 1


def test_full_trainings_and_single_jobs_are_not_packed() -> None:
    fits = Fits(most=9)
    jobs = [job(0, layers=NUM_LAYERS), job(1, layers=NUM_LAYERS), job(2, batch_size=2), job(3), job(4)]
    statuses = {each.number: each.status for each in evaluations_by(executor_of(fits), jobs)}
    assert fits.sizes == [2]
    assert statuses == {0: Status.DIVERGED, 1: Status.DIVERGED, 2: Status.DIVERGED} | {
        3: "finished",
        4: "finished",
    }


@given(count=st.integers(1, 100), most=st.integers(0, 100))
def test_shares_are_even_and_as_few_as_can_be(count: int, most: int) -> None:
    sizes = []
    left = count
    while left:
        sizes.append(even_share(left, most=most))
        left -= sizes[-1]
    assert len(sizes) == -(-count // max(1, most))
    assert max(sizes) - min(sizes) <= 1


def test_a_footprint_counts_what_each_member_needs() -> None:
    task = BY_NAME["gpt"].task()
    settings = settings_of()
    session = begin_session(
        task, configuration_of(0), trainable_layers=2, device_plan=settings.device_plan, root_seed=0
    )
    batch = next(task.training_batches(configuration_of(0), seed=0, skip_samples=0))
    before = [parameter.clone() for parameter in session.parameters]
    footprint = footprint_of(session, batch)
    trained = sum(parameter.numel() for parameter in session.parameters) * 8
    buffers = sum(buffer.numel() * buffer.element_size() for buffer in session.model.buffers())
    # Weights, gradients and AdamW's two moments, and a step count for each parameter.
    assert footprint.member == 4 * trained + buffers + 4 * len(session.parameters)
    assert footprint.step > trained
    assert all(map(torch.equal, before, session.parameters))


@pytest.mark.parametrize("family", ["resnet", "gpt with dropout"])
def test_measuring_a_footprint_leaves_statistics_and_generators_as_they_were(family: str) -> None:
    task = BY_NAME[family].task()
    settings = settings_of()
    session = begin_session(
        task, configuration_of(0), trainable_layers=2, device_plan=settings.device_plan, root_seed=0
    )
    batch = next(task.training_batches(configuration_of(0), seed=0, skip_samples=0))
    state, generator = copy.deepcopy(session.model.state_dict()), torch.get_rng_state()
    footprint_of(session, batch)
    for name, tensor in session.model.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    assert torch.equal(torch.get_rng_state(), generator)


def test_members_are_as_many_as_fit() -> None:
    footprint = Footprint(step=100, member=30)
    assert [footprint.most(memory) for memory in (50, 100, 130, 400)] == [0, 0, 1, 10]
    task = BY_NAME["mlp"].task()
    jobs = jobs_of([configuration_of(number) for number in range(9)], layers=2)
    session = begin_session(
        task, jobs[0].configuration, trainable_layers=2, device_plan=settings_of().device_plan, root_seed=0
    )
    needed = footprint_of(session, next(task.training_batches(configuration_of(0), seed=0, skip_samples=0)))
    population = Population(task, jobs, settings_of(), memory_bytes=needed.step + 4 * needed.member)
    assert population.size == 3
    assert sorted(each.number for each in population.run()) == [0, 1, 2]


def test_memory_that_holds_no_configuration_is_said_and_trains_one(caplog: pytest.LogCaptureFixture) -> None:
    task = BY_NAME["mlp"].task()
    jobs = jobs_of([configuration_of(number) for number in range(9)], layers=2)
    seen: list[Progress] = []
    population = Population(task, jobs, settings_of(), memory_bytes=1, observe=seen.append)
    assert population.size == 1
    assert "1 B of memory is not enough for one configuration, which needs" in caplog.text
    assert [each.number for each in population.run()] == [0]
    assert progress_line(seen[0], "examples").startswith("rung 0  1 training  engine")


class Greedy(nn.Module):
    """Takes memory that is not there, on any batch but small ones, from the tenth step on."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Linear(6, 6)
        self.trained = nn.Linear(6, 3)
        self.steps = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.steps += self.training
        if self.steps > 10:
            torch.empty(2**60)
        result: torch.Tensor = self.trained(self.frozen(x))
        return result


def test_real_lack_of_memory_fails_each_alone_in_the_end() -> None:
    case = dataclasses.replace(BY_NAME["mlp"], model=Greedy)
    with pytest.raises(frostline.FrostlineError, match="out of memory"):
        frostline.tune_task(
            case.task(),
            study="greedy",
            storage=":memory:",
            plan=SearchPlan(configurations=3, search=frostline.Sweep),
            training=TrainingOptions(engine="shared"),
        )


@pytest.mark.parametrize("engine", ["auto", "shared", "stacked"])
def test_a_search_finds_the_same_in_populations_as_one_by_one(engine: str, tmp_path: Path) -> None:
    task = BY_NAME["gpt"].task()
    found = {}
    for way in ("serial", engine):
        result = frostline.tune_task(
            task,
            study=way,
            storage=":memory:",
            plan=SearchPlan(configurations=9),
            training=TrainingOptions(engine=way, runs=tmp_path / way),
        )
        found[way] = [
            (each.request, each.status, pytest.approx(each.score, rel=1e-9))
            for each in sorted(result.history.evaluations(), key=lambda each: each.request)
        ]
    assert found[engine] == found["serial"]


def test_tied_weights_are_said_to_share_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    task = token_case("tied", gpt(tied=True), layers=(2,), options={"tied": "detach"}).task()
    frostline.tune_task(
        task,
        study="tied",
        storage=":memory:",
        plan=SearchPlan(configurations=9),
        training=TrainingOptions(runs=tmp_path),
    )
    said = [record.getMessage() for record in caplog.records if "one by one" in record.getMessage()]
    assert len(said) == 1
    assert "embedding.tokens.weight" in said[0]
    assert "tied='snapshot'" in said[0]


def test_a_sweep_trains_several_numbers_of_layers_together(tmp_path: Path) -> None:
    task = BY_NAME["gpt"].task()
    ladder = frostline.Ladder.layers_only(num_layers=5, full_samples=task.full_samples, num_rungs=4)
    told: list[Progress] = []
    found = {}
    for engine in ("serial", "shared"):
        result = frostline.tune_task(
            task,
            study=engine,
            ladder=ladder,
            plan=SearchPlan(configurations=2, search=frostline.Sweep),
            training=TrainingOptions(engine=engine, runs=tmp_path / engine),
            storage=":memory:",
            observer=Watching(progressed=told.append),
        )
        evaluations = sorted(result.history.evaluations(), key=lambda each: each.request)
        found[engine] = [(each.request, each.score) for each in evaluations]
        populations = [each.cost.population for each in evaluations if each.rung < 3]
        assert populations == [1 if engine == "serial" else 6] * 6
    assert len(found["serial"]) == 8
    assert found["shared"] == found["serial"]
    assert max(each.members for each in told) == 6
