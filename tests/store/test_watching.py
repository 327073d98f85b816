"""Looking at a study that others work on: what they train is seen, and little is read for it."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from frostline.errors import StudyError
from frostline.records import Request, Station
from frostline.store.parsing import MOST_SHOWN
from frostline.store.reading import found_study
from frostline.store.sharing import workers
from frostline.store.sharing.presence import Presence
from frostline.store.watching import StudyWatch
from tests.store.test_claims import Worker

STATION = Station(
    host="node-1",
    pid=7,
    device="cpu",
    requests=(Request(0, 0),),
    since=5.0,
    promised_bytes=2**30,
    used_bytes=2**20,
)


@pytest.fixture(params=["sqlite", "journal"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/s.db" if request.param == "sqlite" else f"{tmp_path}/s.log"


def within_seconds(look: Any, seconds: float = 20.0) -> bool:
    ends = time.monotonic() + seconds
    while not look() and time.monotonic() < ends:
        time.sleep(0.02)
    return bool(look())


def test_trials_are_read_when_somebody_has_written_and_not_else(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frostline.store.watching._PAUSES", 0)
    monkeypatch.setattr(workers, "_SHOWN_SECONDS", 0.05)
    worker = Worker(place)
    with found_study(place, "s") as (storage, study_id):
        watch = StudyWatch(storage, study_id, name="s")
        (name, _), *others = watch.look().workers.items()
        assert others == []
        assert [*watch.look().history.configurations] == []
        assert [watch.look().workers.keys() == {name} for _ in range(5)] == [True] * 5
        assert watch.num_readings == 1
        assert worker.take() == [(0, 0), (0, 1)]
        assert watch.look().history.pending == {Request(0, 0), Request(0, 1)}
        watch.look()
        assert watch.num_readings == 2
        worker.record(0, 0)
        # It is told with the next turn, or where that is long in coming, by itself.
        assert within_seconds(lambda: watch.look().history.num_evaluations == 1)
        assert watch.look().history.pending == {Request(0, 1)}
        worker.study.close()
        sight = watch.look()
        assert (sight.workers, sight.history.pending) == ({}, set()), "what it had claimed is nobody's"


def test_reading_takes_a_small_part_of_the_time(place: str) -> None:
    worker = Worker(place)
    with found_study(place, "s") as (storage, study_id):
        watch = StudyWatch(storage, study_id, name="s")
        watch.look()
        watch._reading_seconds = 1e6
        worker.take()
        assert [*watch.look().history.pending] == []
        watch._reading_seconds = 0.0
        assert watch.look().history.pending == {Request(0, 0), Request(0, 1)}
    worker.study.close()


def test_what_a_worker_trains_is_told_by_itself_within_seconds(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_SHOWN_SECONDS", 0.05)
    worker = Worker(place)
    there = [STATION]
    worker.study.show(lambda: there)
    with found_study(place, "s") as (storage, study_id):
        watch = StudyWatch(storage, study_id, name="s")

        def stations() -> Any:
            (presence,) = watch.look().workers.values()
            return presence.stations

        assert within_seconds(lambda: stations() == (STATION,))
        there[0] = replace(STATION, requests=(), since=None)
        assert within_seconds(lambda: stations() == (there[0],))

        def fail() -> Any:
            raise RuntimeError("dictionary changed size during iteration")

        # What cannot be told is not told, and the worker beats on.
        worker.study.show(fail)
        assert within_seconds(lambda: stations() is None)
        worker.study.show(lambda: [STATION])
        assert within_seconds(lambda: stations() == (STATION,))
        assert watch.num_readings == 1
    worker.study.close()


def test_of_many_processes_the_first_are_told() -> None:
    many = replace(STATION, requests=tuple(Request(number, 0) for number in range(100)))
    told = Presence(host="h", boot="", pid=1, started="1", beat=5.0, stations=(many,) * 100).record()
    again = Presence.parse("them", told)
    assert again.stations == (replace(many, requests=many.requests[:MOST_SHOWN]),) * MOST_SHOWN


def test_a_study_that_is_deleted_is_said_to_be_gone(tmp_path: Path) -> None:
    place = f"sqlite:///{tmp_path}/s.db"
    Worker(place).study.close()
    with found_study(place, "s") as (storage, study_id):
        watch = StudyWatch(storage, study_id, name="s")
        storage.backend.delete_study(study_id)
        with pytest.raises(StudyError, match="the study 's' is empty"):
            watch.look()
