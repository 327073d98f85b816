"""What an executor is handed: what evaluates, and what lets go of a configuration that gets no further."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from frostline.protocols import Executor
from frostline.run.execution.in_process import in_process_executor
from frostline.run.execution.local import local_executor
from frostline.run.execution.workload import TaskTraining, Workload
from frostline.training.machine.threads import Threads
from tests.run.execution.test_side_by_side import LADDER, job, workload_of


def kept_in(folder: Path) -> list[int]:
    """The configurations that checkpoints in ``folder`` are of."""
    return sorted(int(path.name.partition("-")[0]) for path in folder.rglob("*.pt"))


def two_kept(folder: Path, **options: object) -> Workload:
    """A workload of which configurations 0 and 1 could be gone on with."""
    workload = workload_of(folder, **options)
    for number in range(2):
        workload.evaluate(job(number))
    assert kept_in(folder) == [0, 1]
    return workload


def test_a_tasks_checkpoints_are_forgotten_by_number(tmp_path: Path) -> None:
    workload = two_kept(tmp_path)
    for _ in range(2):
        workload.forget(0)
        assert kept_in(tmp_path) == [1]


def test_who_decides_needs_no_device_such_as_those_that_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = two_kept(tmp_path).training
    assert isinstance(here, TaskTraining)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    training = replace(here, options=replace(here.options, device="cuda"))
    above = replace(job(1), rung=1, continued_from=(job(1).fidelity,))
    assert training.samples_kept(above) == 512
    Workload(training=training, ladder=LADDER).forget(1)
    assert kept_in(tmp_path) == [0]
    assert training.samples_kept(above) == 0


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (local_executor, {"workers": 2}),
        (local_executor, {"workers": "auto"}),
        (lambda workload: in_process_executor(workload, Threads.as_they_are()), {"engine": "serial"}),
        (lambda workload: in_process_executor(workload, Threads.as_they_are()), {"engine": "shared"}),
    ],
    ids=["side by side", "spreading", "serial", "populations"],
)
def test_every_executor_of_this_machine_forgets(
    make: Callable[[Workload], Executor], options: dict[str, object], tmp_path: Path
) -> None:
    executor = make(two_kept(tmp_path, **options))
    executor.forget(0)
    assert kept_in(tmp_path) == [1]
    executor.close()
