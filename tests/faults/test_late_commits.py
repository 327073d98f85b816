"""A worker is killed after it has sent its last word to a database's server: it is kept all the same, and waited for."""

from __future__ import annotations

import os
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from frostline.store.backends.storage import close_storage
from tests.faults.test_kills import database_of
from tests.store.sharing.test_workers import study_in, turn_at
from tests.store.test_claims import Worker

SERVER = os.environ.get("FROSTLINE_TEST_DATABASE", "")


def bury(turn: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``turn`` take the worker ``name`` for dead."""
    monkeypatch.setattr(turn._watch, "is_alive", lambda worker, _: worker != name)
    monkeypatch.setattr(turn._watch, "has_died", lambda _: True)


@pytest.mark.skipif(not SERVER, reason="FROSTLINE_TEST_DATABASE names no database")
def test_what_the_dead_have_committed_last_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    with database_of(SERVER, uuid.uuid4().hex[:8]) as place:
        dead, alive = Worker(place, configurations=3), Worker(place, configurations=3)
        is_committing = threading.Event()

        def commit_late(_: object) -> None:
            is_committing.set()
            time.sleep(0.5)

        # What its thread does from now on is what the server does when its process is gone.
        event.listen(dead.study._access.within._engine, "commit", commit_late)  # type: ignore[attr-defined]
        dying = threading.Thread(target=dead.take, args=(1,))
        dying.start()
        assert is_committing.wait(10)
        bury(alive.study._turn, dead.study._turn.worker, monkeypatch)
        assert alive.take(1) == [(0, 0)], "the configuration that the dead had drawn is evaluated"
        dying.join()
        assert alive.study._access.num_trials() == 1
        for worker in (dead, alive):
            worker.study.close()
            close_storage(worker.study._storage)


def test_the_turn_begins_when_the_dead_have_no_more_to_write(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place = f"sqlite:///{tmp_path}/s.db"
    study_in(place)
    dead, alive = turn_at(place), turn_at(place)
    bury(alive, dead.worker, monkeypatch)
    written = []
    write = alive._access.set_attribute
    monkeypatch.setattr(
        alive._access, "set_attribute", lambda attribute: (written.append(attribute[0]), write(attribute))
    )
    with alive.take():
        # A server lets nobody write what a transaction that is not over has written.
        assert written[-1] == f"frostline:worker:{dead.worker}"
    alive.leave()
    dead.leave()
