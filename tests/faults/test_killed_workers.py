"""Workers of one study that are killed and told to end: nothing is lost or done twice, and the answer is one process's."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest

from frostline.cli.main import main
from frostline.store.backends.fastest import access_to
from frostline.store.reading import found_study, read_study
from tests.postgresql import postgresql

pytestmark = pytest.mark.multiprocess

TINY = Path(__file__).parents[1] / "tiny_task.py"
# One after the other, so that a worker claims little: two deaths in one evaluation would set it aside.
WORDS = ["--engine", "serial", "--workers", "1", "--threads", "1", "--device", "cpu"]


@dataclass(frozen=True, kw_only=True)
class Case:
    storage: str
    workers: int
    kills: int
    configurations: int

    def __str__(self) -> str:
        return f"{self.workers} workers, {self.storage}, {self.kills} ends"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(TINY, tmp_path / "tiny_task.py")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def work(folder: Path, place: str, told: Path) -> None:
    """What a worker's process does; each line that it prints stands in ``told`` at once."""
    os.chdir(folder)
    with told.open("a", buffering=1) as out:
        sys.stdout = sys.stderr = out
        main(["worker", "s", "--storage", place, *WORDS])


@contextmanager
def place_of(storage: str, folder: Path) -> Iterator[str]:
    if storage == "postgresql":
        with postgresql(folder / "server") as place:
            yield place
    else:
        yield {"sqlite": f"sqlite:///{folder}/s.db", "journal": f"{folder}/s.log"}[storage]


def everything_in(place: str) -> list[Any]:
    study = read_study(place, "s")
    return [
        (made.number, made.hyperparameters, [(one.rung, one.score) for one in study.history.evaluations_of(made.number)])
        for made in study.history.configurations
    ]  # fmt: skip


def evaluated_in(*told: Path) -> list[tuple[str, str]]:
    """The rungs and configurations that workers said they had evaluated, after each was written down."""
    lines = [line.split() for file in told for line in file.read_text().splitlines()]
    return [(words[1], words[3]) for words in lines if words[:1] == ["rung"] and words[2] == "configuration"]


def run_workers(case: Case, place: str, context: Any, folder: Path) -> list[int]:
    """Have workers search, of which some are killed and as many told to end; return how many ended in each way."""
    random, running, ends, may_end_at = Random(f"{case}"), dict[Path, Any](), [0, 0], 1
    files: list[Path] = []
    deadline = time.monotonic() + 600
    while True:
        while len(running) < case.workers:
            files.append(folder / f"told-{len(files)}")
            files[-1].touch()
            running[files[-1]] = context.Process(target=work, args=(folder, place, files[-1]))
            running[files[-1]].start()
        time.sleep(0.02)
        assert time.monotonic() < deadline, ends
        assert all(process.exitcode in (None, 0) for process in running.values()), [*map(Path.read_text, files)]
        if any(process.exitcode == 0 for process in running.values()):
            for process in running.values():
                process.join(120)
                assert process.exitcode == 0, process
            return ends
        begun = [told for told in running if evaluated_in(told)]
        if sum(ends) < case.kills and begun and len(evaluated_in(*files)) >= may_end_at:
            process, kind = running.pop(random.choice(begun)), sum(ends) % 2
            os.kill(process.pid, (signal.SIGKILL, signal.SIGTERM)[kind])
            process.join(60)
            ends[kind] += process.exitcode != 0
            assert process.exitcode in ((-signal.SIGKILL, 0), (130, 0))[kind]
            # Until the next end, what this one had begun is done.
            may_end_at = len(evaluated_in(*files)) + 12


def check(case: Case, context: Any, folder: Path) -> None:
    task = ["tune", "tiny_task.py:task", "--study", "s", "-n", f"{case.configurations}"]
    with place_of(case.storage, folder) as place:
        with pytest.raises(SystemExit, match="0"):
            main([*task, "--storage", place, "--for-workers"])
        killed, told_to_end = run_workers(case, place, context, folder)
        found = everything_in(place)
        with found_study(place, "s") as (storage, study_id):
            attributes = access_to(storage.backend, study_id).attributes()
    assert (killed, told_to_end) == (-(-case.kills // 2), case.kills // 2)
    with pytest.raises(SystemExit, match="0"):
        main([*task, "--storage", "undisturbed.log", *WORDS])
    assert found == everything_in("undisturbed.log")
    evaluated = evaluated_in(*folder.glob("told-*"))
    assert len(evaluated) == len({*evaluated}), "what was written down is not evaluated again"
    assert {value for name, value in attributes.items() if "worker" in name} == {None}, "everybody said goodbye"
    print(f"\n{case}: {killed} killed, {told_to_end} told to end, {len(evaluated)} evaluations")  # noqa: T201


def test_workers_that_are_killed_and_told_to_end_lose_nothing(processes: Any, folder: Path) -> None:
    check(Case(storage="sqlite", workers=2, kills=2, configurations=27), processes, folder)


@pytest.mark.slow
def test_workers_share_a_real_server(processes: Any, folder: Path) -> None:
    check(Case(storage="postgresql", workers=2, kills=2, configurations=27), processes, folder)


@pytest.mark.torture
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "case",
    [
        Case(storage="sqlite", workers=4, kills=30, configurations=324),
        Case(storage="postgresql", workers=4, kills=30, configurations=324),
        Case(storage="postgresql", workers=16, kills=20, configurations=243),
        Case(storage="journal", workers=2, kills=4, configurations=81),
    ],
    ids=str,
)
def test_workers_that_are_killed_for_long_lose_nothing(case: Case, processes: Any, folder: Path) -> None:
    check(case, processes, folder)
