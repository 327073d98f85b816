"""Several workers on one study: one decides at a time, and the dead are passed over."""

from __future__ import annotations

import os
import sys
import time
from multiprocessing.context import ForkServerContext
from pathlib import Path

import optuna
import pytest

from frostline.store.backends.fastest import access_to
from frostline.store.backends.storage import open_storage
from frostline.store.sharing.turns import SoleWorker
from frostline.store.sharing.workers import SharedTurn
from tests.forks import Fork


@pytest.fixture(params=["sqlite", "journal"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/study.db" if request.param == "sqlite" else str(tmp_path / "journal.log")


def study_in(place: str) -> int:
    storage = open_storage(place)
    optuna.create_study(storage=storage, study_name="s", load_if_exists=True)
    return storage.get_study_id_from_name("s")


def turn_at(place: str) -> SharedTurn:
    return SharedTurn(access_to(open_storage(place), study_in(place)))


def count_up(place: str, counter: Path, rounds: int) -> None:
    turn = turn_at(place)
    for _ in range(rounds):
        with turn.take():
            counter.write_text(str(int(counter.read_text()) + 1))
    turn.leave()


@pytest.mark.multiprocess
@pytest.mark.slow
def test_two_workers_never_decide_at_once(place: str, tmp_path: Path, processes: ForkServerContext) -> None:
    study_in(place)
    counter = tmp_path / "counter"
    counter.write_text("0")
    with (
        Fork(processes, count_up, place, counter, 15) as one,
        Fork(processes, count_up, place, counter, 15) as other,
    ):
        assert [worker.wait(120) for worker in (one, other)] == [0, 0]
    assert counter.read_text() == "30"  # a lost update would show two workers inside at once


def hold(place: str) -> None:
    turn = turn_at(place)
    with turn.take():
        sys.stdout.write(f"{turn.worker}\n")
        time.sleep(600)


@pytest.mark.multiprocess
def test_a_worker_that_was_killed_while_deciding_is_passed_over(place: str, processes: ForkServerContext) -> None:
    study_in(place)
    with Fork(processes, hold, place) as holder:
        name = holder.stdout.readline().strip()
        turn = turn_at(place)
        turn._look()
        assert turn.alive(name)
        assert turn.in_company()
        holder.kill()
    with turn.take():
        assert not turn.alive(name)
        assert [*turn.dead] == [name]
    assert turn.heard() is None  # its last news may not be known yet
    turn.leave()


def test_a_worker_on_another_machine_is_dead_after_two_minutes_without_a_beat(place: str) -> None:
    storage = open_storage(place)
    study_id = study_in(place)
    turn = turn_at(place)
    record = {"host": "elsewhere", "pid": os.getpid(), "started": "1", "deciding": False}
    for name, age in (("fresh", 5), ("stale", 300)):
        attribute = f"frostline:worker:{name}"
        storage.set_study_system_attr(study_id, attribute, {**record, "beat": time.time() - age})
    turn._look()
    assert turn.alive("fresh")
    assert not turn.alive("stale")
    assert not turn.alive("unheard of")
    turn.leave()


def test_the_sole_worker_of_a_study_in_memory_waits_for_nobody() -> None:
    turn = SoleWorker()
    with turn.take():
        assert turn.alive(turn.worker)
        assert turn.heard() == []
        assert not turn.alive("somebody")
