"""A share's half, without Ray: what it tells, and that it looks what is free before it begins."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import frostline
from frostline.integrations.ray import ray_worker
from frostline.integrations.ray.ray_worker import Crowded, Order, SharePlan, ShareWorker
from frostline.records import Evaluation, Job
from frostline.run.execution.side_worker import Ready, SideWork, Unable
from frostline.run.execution.workload import TaskTraining
from tests.run import side_tasks
from tests.run.execution.test_side_by_side import LADDER, job


@pytest.fixture
def as_in_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a worker changes of its process is put back."""
    logger = logging.getLogger("frostline")
    level, handlers, propagate = logger.level, [*logger.handlers], logger.propagate
    monkeypatch.setattr(ray_worker, "prepare_process", lambda: None)
    monkeypatch.chdir(tmp_path)
    yield
    logger.setLevel(level)
    logger.handlers, logger.propagate = handlers, propagate


def worker_in(folder: Path, **changes: Any) -> ShareWorker:
    options = frostline.TrainingOptions(device="cpu", runs=folder, engine="shared", threads=1)
    training = TaskTraining(task=side_tasks.task, options=options, study="study", seed=0)
    plan = {"number": 3, "memory_bytes": 2**30, "trainable_layers": 2, "directory": f"{folder}"} | changes
    work = SideWork(training=training, ladder=LADDER, log_level=logging.INFO)
    return ShareWorker(pickle.dumps(work), SharePlan(**plan))


def told(worker: ShareWorker, kind: type, *, number: int = 1) -> list[Any]:
    """The next messages of a kind; others may come in between."""
    messages: list[Any] = []
    while len(messages) < number:
        messages += [message for message in worker.hear() if isinstance(message, kind | Unable)]
    return messages


@pytest.mark.usefixtures("as_in_a_process_of_its_own")
def test_it_trains_what_fits_and_gives_back_what_does_not(tmp_path: Path) -> None:
    worker = worker_in(tmp_path)
    assert told(worker, Ready) == [Ready()]
    jobs: list[Job] = [job(0), job(1)]
    worker.submit(Order(jobs=jobs, needed_bytes=2**60))
    (crowded,) = told(worker, Crowded)
    assert crowded.jobs == jobs
    assert 0 < crowded.free_bytes < 2**60
    worker.submit(Order(jobs=jobs, needed_bytes=2**20))
    evaluations = told(worker, Evaluation, number=2)
    assert [(each.number, each.cost.population) for each in evaluations] == [(0, 2), (1, 2)]


@pytest.mark.usefixtures("as_in_a_process_of_its_own")
def test_what_it_cannot_hold_at_all_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (said,) = told(worker_in(tmp_path, memory_bytes=1000, trainable_layers=6), Ready)
    assert said.reason.startswith("NotEnoughMemoryError: training 6 of 6 layers of fateful needs ")
