"""Trainings go on elsewhere: nothing is shared but the study's database and a bucket."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from frostline.cli.main import main
from frostline.store.reading import read_study
from tests.folders.object_store import objects

pytestmark = [pytest.mark.multiprocess, pytest.mark.slow]

TASK = "slow_task.py:task"
WORDS = ["--engine", "serial", "--workers", "1", "--threads", "1", "--device", "cpu"]
# Nine configurations on 96 samples, three of them on to 320, and one on to 1024; 32 in a step.
SEARCH = ["-n", "9", "--ladder", "6:96,6:320,6:1024"]
STEPS_BELOW_THE_LAST = 9 * 3 + 3 * (10 - 3)
STEPS_OF_THE_LAST = 32 - 10


def command(folder: Path, environment: dict[str, str], words: list[str]) -> None:
    """What a process of its own does."""
    os.chdir(folder)
    os.environ.update(environment)
    with (folder / "told").open("w", buffering=1) as told:
        sys.stdout = sys.stderr = told
        main(words)


class Machines:
    """Processes of commands, each in a folder of its own, as on a machine of its own."""

    def __init__(self, context: Any, environment: dict[str, str]) -> None:
        self._context, self.environment = context, {**environment}
        self.begun: list[Any] = []

    def begin(self, folder: Path, *words: str) -> Any:
        folder.mkdir(exist_ok=True)
        shutil.copy(Path(__file__).parent / "slow_task.py", folder)
        process = self._context.Process(target=command, args=(folder, self.environment, [*words]))
        process.start()
        self.begun.append(process)
        return process

    def end(self, process: Any) -> None:
        process.join(120)
        assert process.exitcode == 0, process

    def run(self, folder: Path, *words: str) -> str:
        """Return what a command printed."""
        process = self.begin(folder, *words)
        process.join(120)
        told = (folder / "told").read_text()
        assert process.exitcode == 0, told
        return told


@pytest.fixture
def machines(processes: Any, s3: dict[str, str]) -> Iterator[Machines]:
    machines = Machines(processes, s3)
    yield machines
    for process in machines.begun:
        process.kill()


def steps_in(folder: Path) -> int:
    return (folder / "steps").stat().st_size if (folder / "steps").exists() else 0


def scores_in(storage: str) -> list[Any]:
    history = read_study(storage, "s").history
    return [
        (
            made.number,
            dict(made.hyperparameters),
            [(one.rung, one.score, one.curve) for one in history.evaluations_of(made.number)],
        )
        for made in history.configurations
    ]


@pytest.fixture(scope="module")
def alone(processes: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder where one process made the same search, undisturbed, with all that it left on its own disk."""
    folder = tmp_path_factory.mktemp("alone")
    Machines(processes, {}).run(folder, "tune", TASK, "--study", "s", "--storage", "s.log", *SEARCH, *WORDS)
    return folder


def test_a_killed_training_goes_on_on_another_machine_from_its_last_checkpoint(
    alone: Path, machines: Machines, s3: dict[str, str], tmp_path: Path
) -> None:
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    shared = ["--storage", f"sqlite:///{tmp_path}/shared.db", "--runs", "s3://bucket/killed"]
    killed = machines.begin(first, "tune", TASK, "--study", "s", *shared, *SEARCH, *WORDS)
    deadline = time.monotonic() + 120
    while steps_in(first) < STEPS_BELOW_THE_LAST + 4:
        time.sleep(0.005)
        assert time.monotonic() < deadline
        assert killed.is_alive(), (first / "told").read_text()
    os.kill(killed.pid, signal.SIGKILL)
    killed.join(60)
    # In the middle of the training in full.
    assert STEPS_BELOW_THE_LAST + 4 <= steps_in(first) < STEPS_BELOW_THE_LAST + STEPS_OF_THE_LAST
    kept = objects(s3, "killed/")
    assert kept
    assert all(key.endswith(".pt") for key in kept)
    machines.run(second, "worker", "s", *shared, *WORDS)
    # From the last checkpoint, and from nothing else.
    assert steps_in(second) == STEPS_OF_THE_LAST
    assert scores_in(shared[1]) == scores_in(f"{alone}/s.log")
    # What nobody goes on from is gone, and so is every model but the best and one's own.
    assert {key.rpartition(".")[2] for key in objects(s3, "killed/")} == {"safetensors"}
    best = ["best", "s", "--weights", "best.safetensors"]
    machines.run(third, *best, *shared)
    machines.run(alone, *best, "--storage", "s.log")
    there, here = (load_file(folder / "best.safetensors") for folder in (third, alone))
    assert {*there} == {*here}
    assert all(there[name].equal(here[name]) for name in here)
    # Nothing of it was ever on the machines.
    assert [path.name for folder in (first, second) for path in folder.rglob("*.pt")] == []
    assert [path.parent.name for path in tmp_path.rglob("*.safetensors")] == ["third"]
    assert "and the folder s3://bucket/killed/s" in machines.run(third, "delete", "s", "--yes", *shared)
    assert objects(s3, "killed/") == {}


def test_two_workers_at_once_go_on_with_each_others_trainings(
    alone: Path, machines: Machines, s3: dict[str, str], tmp_path: Path
) -> None:
    shared = ["--storage", f"sqlite:///{tmp_path}/shared.db"]
    folders = [tmp_path / name for name in ("first", "second")]
    machines.run(tmp_path / "begun", "tune", TASK, "--study", "s", *shared, "--for-workers", *SEARCH)
    words = ["worker", "s", *shared, "--runs", "s3://bucket/two", *WORDS]
    # They wait for each other in their first steps.
    machines.environment["FROSTLINE_TEST_WAIT"] = os.pathsep.join(map(str, folders))
    for process in [machines.begin(folder, *words) for folder in folders]:
        machines.end(process)
    assert scores_in(shared[1]) == scores_in(f"{alone}/s.log")
    steps = [steps_in(folder) for folder in folders]
    assert min(steps) > 0
    # No training was begun anew where the other one had left off.
    assert sum(steps) == STEPS_BELOW_THE_LAST + STEPS_OF_THE_LAST == steps_in(alone)
    assert {key.rpartition(".")[2] for key in objects(s3, "two/")} == {"safetensors"}
