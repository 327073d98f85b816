"""A search goes over to workers between two populations, when it has taken long and threads are no use; else it stays."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from frostline.errors import OptionError
from frostline.records import Evaluation, Job
from frostline.run.execution import spreading
from frostline.run.execution.in_process import in_process_executor
from frostline.run.execution.local import local_executor
from frostline.run.execution.side_by_side import SideBySideExecutor, WorkerError
from frostline.run.execution.spreading import SpreadingExecutor
from frostline.run.execution.workload import Workload
from frostline.training.machine.threads import Threads
from tests.executing import evaluations_by
from tests.run.execution.test_side_by_side import alone, assert_same_bits, by_number, job, workload_of


class Workers(SideBySideExecutor):
    """In the place of workers: trains here, and says what it was given; fails at the evaluation ``fails_at``."""

    def __init__(self, workload: Workload, *, fails_at: int | None = None) -> None:
        self._here = in_process_executor(workload, Threads.as_they_are())
        self._fails_at = fails_at
        self.trained: list[int] = []
        self.given: list[int] = []

    def room(self) -> int:
        return 5

    def submit(self, jobs: Sequence[Job]) -> None:
        self.given += [job.configuration.number for job in jobs]
        self._here.submit(jobs)

    def next_ended(self) -> Evaluation:
        if len(self.trained) == self._fails_at:
            raise WorkerError("they are gone")
        evaluation = self._here.next_ended()
        self.trained.append(evaluation.number)
        return evaluation

    def close(self) -> None:
        self._here.close()


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spreading, "num_cores", lambda: 2)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Workers]:
    """The workers that were made."""
    workers: list[Workers] = []

    def make(workload: Workload, *, num_workers: int) -> Workers:
        assert num_workers == 2
        workers.append(Workers(workload))
        return workers[-1]

    monkeypatch.setattr(spreading, "side_by_side_executor", make)
    return workers


def executor_of(folder: Path, *, seconds_before: float = 0.0, threads: Threads | None = None) -> SpreadingExecutor:
    workload = workload_of(folder, workers="auto")
    threads = threads or Threads(most=1, is_measured=False, allowed=2)
    return SpreadingExecutor(workload, threads, seconds_before=seconds_before)


JOBS = [*(job(number) for number in range(4)), *(job(number, layers=6) for number in range(4, 7))]


def test_what_waits_goes_over_between_two_populations(tmp_path: Path, made: list[Workers]) -> None:
    executor = executor_of(tmp_path, seconds_before=1e-9)
    ended = by_number(evaluations_by(executor, JOBS))
    (workers,) = made
    # The first population is trained here, as the search had not begun when it did.
    assert (workers.given, workers.trained) == ([4, 5, 6], [4, 5, 6])
    assert_same_bits(ended, alone(tmp_path, JOBS))
    assert executor.room() == 5


@pytest.mark.parametrize(
    ("seconds_before", "threads"),
    [
        (1e9, Threads(most=1, is_measured=False, allowed=2)),
        (0.0, Threads(most=2, is_measured=False, allowed=2)),
        (0.0, Threads(most=2, is_measured=True, allowed=2)),
        (0.0, Threads(most=1, is_measured=False, allowed=1)),
    ],
    ids=["it is over soon", "two threads are used", "threads are being measured", "one is allowed"],
)
def test_it_stays_where_that_is_better(
    seconds_before: float, threads: Threads, tmp_path: Path, made: list[Workers]
) -> None:
    executor = executor_of(tmp_path, seconds_before=seconds_before, threads=threads)
    assert len(list(evaluations_by(executor, JOBS[:3]))) == 3
    assert made == []


def test_the_last_job_is_worth_no_workers(tmp_path: Path, made: list[Workers]) -> None:
    executor = executor_of(tmp_path)
    assert len(list(evaluations_by(executor, JOBS[:1]))) == 1
    assert made == []


def test_a_task_that_cannot_be_sent_is_trained_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(workload: Workload, *, num_workers: int) -> Any:
        raise OptionError("the task cannot be sent")

    caplog.set_level(logging.INFO)
    monkeypatch.setattr(spreading, "side_by_side_executor", refuse)
    assert len(list(evaluations_by(executor_of(tmp_path), JOBS))) == 7
    said = [
        record
        for record in caplog.records
        if "one process goes on: the task cannot be sent" in record.getMessage()
    ]
    assert len(said) == 1


def test_workers_that_fail_leave_all_to_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def make(workload: Workload, *, num_workers: int) -> Workers:
        return Workers(workload, fails_at=2)

    monkeypatch.setattr(spreading, "side_by_side_executor", make)
    ended = by_number(evaluations_by(executor_of(tmp_path), JOBS))
    assert_same_bits(ended, alone(tmp_path, JOBS))
    assert any("one process goes on: they are gone" in record.getMessage() for record in caplog.records)


def test_auto_is_for_the_cpu_and_one_is_this_process(tmp_path: Path) -> None:
    assert isinstance(local_executor(workload_of(tmp_path, workers="auto")), SpreadingExecutor)
    assert not isinstance(local_executor(workload_of(tmp_path, workers=1)), SpreadingExecutor | SideBySideExecutor)
    serial = local_executor(workload_of(tmp_path, workers="auto", engine="serial"))
    assert [evaluation.number for evaluation in evaluations_by(serial, JOBS[:2])] == [0, 1]
