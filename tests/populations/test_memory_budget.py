"""Populations and the outputs kept beside them never hold more than the memory that is allowed."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from frostline.populations.engines import Engine
from frostline.populations.memory_budget import MemoryBudget
from frostline.populations.population import Population
from frostline.populations.prefix.prefix_store import PrefixStore
from frostline.populations.prefix.recorded_outputs import Recording
from frostline.populations.prefix.share import Share
from frostline.populations.prefix.shared_prefix import SharedPrefix
from frostline.protocols import Task
from frostline.records import Job
from frostline.run.execution import in_process
from frostline.run.execution.executors import PopulationExecutor
from frostline.run.execution.local import local_executor
from frostline.run.execution.options import TrainingOptions
from frostline.run.execution.workload import TaskTraining, Workload
from frostline.search.ladder import Ladder
from frostline.training.course import Course
from tests.populations.cases import CASES, configuration_of, jobs_of
from tests.training.cases import settings_of

GIB = 1024**3
FREE = 10 * GIB


class Noted(Exception):
    """In the place of a population: what it would have been given."""

    def __init__(
        self, task: Task, jobs: Sequence[Job], settings: Any, *, memory_bytes: int, store: PrefixStore, **_: Any
    ) -> None:
        self.memory_bytes = memory_bytes
        self.store = store


@pytest.fixture
def free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frostline.training.machine.memory.kernel_bytes", lambda _: FREE)
    monkeypatch.setattr("frostline.training.machine.memory.cgroup_bytes", lambda *_: None)


def given(monkeypatch: pytest.MonkeyPatch, directory: Path, **changes: str) -> Noted:
    """Return what the populations of a search with these options are given."""
    monkeypatch.setattr(in_process, "Population", Noted)
    options = TrainingOptions(device="cpu", runs=directory, **changes)
    training = TaskTraining(task=CASES[0].task(), options=options, study="study", seed=0)
    ladder = Ladder.explicit([(2, 60), (3, 240)], num_layers=3, full_samples=240)
    executor = local_executor(Workload(training=training, ladder=ladder))
    assert isinstance(executor, PopulationExecutor)
    noted: Any = executor.populate(jobs_of([configuration_of(0)], layers=2))
    return noted


@pytest.mark.usefixtures("free_memory")
@pytest.mark.parametrize("prefix_cache", ["auto", "off", "1GiB", "3GiB", "100GiB"])
@pytest.mark.parametrize(
    ("memory", "allowed"), [("8GiB", 8 * GIB), ("2GiB", 2 * GIB), ("auto", round(0.8 * FREE))]
)
def test_populations_and_kept_outputs_share_the_memory(
    memory: str, allowed: int, prefix_cache: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted = given(monkeypatch, tmp_path, memory=memory, prefix_cache=prefix_cache)
    in_memory = noted.store.validation_bytes + (noted.store.training_bytes if noted.store.directory is None else 0)
    assert noted.memory_bytes + in_memory <= allowed
    assert noted.memory_bytes >= allowed // 4


@pytest.mark.usefixtures("free_memory")
def test_what_is_kept_already_is_not_subtracted_twice_from_what_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = MemoryBudget.parse("auto", device=torch.device("cpu"))
    store = budget.store("auto", directory=tmp_path)
    empty = budget.left_beside(store)
    population_on(store)
    assert store.held_bytes > 0
    # The machine has as much less to give.
    monkeypatch.setattr("frostline.training.machine.memory.kernel_bytes", lambda _: FREE - store.held_bytes)
    assert budget.left_beside(store) == pytest.approx(empty + 0.2 * store.held_bytes, abs=2)


def test_an_accelerators_memory_is_the_populations_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    budget = MemoryBudget.parse("8GiB", device=torch.device("cuda"))
    assert budget.left_beside(budget.store("auto", directory=tmp_path)) == 8 * GIB
    shared = MemoryBudget.parse("8GiB", device=torch.device("mps"))
    assert shared.left_beside(shared.store("auto", directory=tmp_path)) < 8 * GIB


def test_nothing_is_kept_beside_a_configuration_that_takes_all_of_the_memory(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = PrefixStore(training_bytes=2**24, validation_bytes=2**24)
    population_on(store)
    assert store.held_bytes > 0
    population = population_on(store, memory_bytes=1)
    assert (store.limit_bytes, store.held_bytes) == (0, 0)
    assert population.size == 1
    assert "not enough" not in caplog.text  # what the outputs gave up is


def test_a_population_that_was_validated_holds_one_batch_of_outputs_not_one_for_each_member(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outputs: list[weakref.ref[torch.Tensor]] = []
    record = SharedPrefix.recording

    def recorded(self: SharedPrefix, share: Share, batch: Any) -> Recording:
        recording = record(self, share, batch)
        if not share.session.model.training:
            outputs.append(weakref.ref(recording.kept()[0]))
        return recording

    monkeypatch.setattr(SharedPrefix, "recording", recorded)
    jobs = jobs_of([configuration_of(number) for number in range(3)], layers=2, samples=20)
    most_alive = 0
    population = Population(CASES[0].task(), jobs, settings_of())
    for _ in population.run():
        # Every member asks for them, and is given the same.
        alive = {id(output()) for output in outputs if output() is not None}
        most_alive = max(most_alive, len(alive))
    assert len(outputs) >= 3
    assert most_alive <= 1


def test_no_member_holds_what_its_step_came_to_until_the_others_have_made_theirs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Small things that are held lie beside large ones that are freed: malloc had to be trimmed ten times as often.
    held: list[int] = []
    learn = Course.learn

    def learnt(self: Course, batch: Any) -> None:
        learn(self, batch)
        held.append(len(self._readings._waiting))

    monkeypatch.setattr(Course, "learn", learnt)
    jobs = jobs_of([configuration_of(number) for number in range(3)], layers=2, samples=20)
    assert len(list(Population(CASES[0].task(), jobs, settings_of(), engine=Engine.SHARED).run())) == 3
    assert held == [0] * 15


def population_on(store: PrefixStore, memory_bytes: int | None = None) -> Population:
    jobs = jobs_of([configuration_of(number) for number in range(2)], layers=2, samples=20)
    population = Population(CASES[0].task(), jobs, settings_of(), memory_bytes=memory_bytes, store=store)
    list(population.run())
    return population
