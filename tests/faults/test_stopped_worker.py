"""A worker that was stopped for an hour and goes on: its claim was given away once, and its late result does no harm."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pytest

from frostline.records import Cost, Request
from frostline.store.backends.fastest import access_to
from frostline.store.backends.storage import open_storage
from frostline.store.sharing import presence, workers
from frostline.store.sharing.workers import SharedTurn
from tests.store.test_claims import Worker, ended, trials_of

HOUR = 3600.0


class Clock:
    """The time module, of which the steady clock can be put forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead

    def __getattr__(self, name: str) -> object:
        return getattr(time, name)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(presence, "time", clock)
    monkeypatch.setattr(workers, "time", clock)
    return clock


@pytest.fixture(params=["sqlite", "journal"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/study.db" if request.param == "sqlite" else str(tmp_path / "journal.log")


def stopped(pid: int) -> tuple[str, str]:
    """Every process of this machine as it is, but stopped: whether it lives is told by its beats alone."""
    return "T", presence_of(pid)[1]


presence_of = presence.process_of


def seconds_in(place: str) -> dict[tuple[int, str], float]:
    return {
        (trial.number, key): record["seconds"]
        for trial in trials_of(place)
        for key, record in trial.user_attrs.items()
        if key.startswith("rung ")
    }


@pytest.mark.parametrize("is_over", [False, True])
def test_a_late_result_does_no_harm(
    is_over: bool, place: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeper, other = Worker(place, configurations=2), Worker(place, configurations=2)
    assert sleeper.take(1) == [(0, 0)]
    assert (0, 0) not in other.take(1)
    monkeypatch.setattr(presence, "process_of", stopped)
    clock.ahead += HOUR
    sleeper_name = sleeper.study._turn.worker
    assert other.take(1) == [(0, 0)], "its claim is given away"
    third = Worker(place, configurations=2)
    assert (0, 0) not in third.take(0 if is_over else 99), "and only once"
    by_other = replace(ended(Request(0, 0), 1.0), cost=Cost(seconds=2.0, samples=1))
    other.loop.record(by_other)
    if is_over:
        other.record(0, 1)
        other.study.end([0])
    # It wakes up, and does not know.
    sleeper.record(0, 0, 1.0)
    assert seconds_in(place)[0, "rung 0"] == 2.0, "the first record counts"
    sleeper.take(0)
    sleeper.loop.decide()
    with sleeper.study.deciding():
        evaluation = sleeper.study.history.evaluation(0, 0)
    assert evaluation is not None
    assert evaluation.cost.seconds == 2.0, "and it goes by that"
    assert other.study._turn.alive(other.study._turn.worker)
    with other.study.deciding():
        assert other.study._turn.alive(sleeper_name), "it is one of them again"
    for worker in (sleeper, other, third):
        worker.study.close()


def test_a_worker_that_was_stopped_while_it_decided_decides_anew(
    place: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeper, other = Worker(place, configurations=1), Worker(place, configurations=1)
    with other.study.deciding():
        pass  # has seen the sleeper
    requests = sleeper.search.next_requests
    naps = [HOUR]

    class Sleepy:
        """The search, in which the process is stopped for an hour, and another worker decides."""

        ladder = sleeper.search.ladder

        def next_requests(self, *arguments: object, **named: object) -> object:
            wanted = requests(*arguments, **named)  # type: ignore[arg-type]
            if naps:
                assert isinstance(other.study._turn, SharedTurn)
                other.study._turn._look()  # it waits for its turn
                clock.ahead += naps.pop()
                monkeypatch.setattr(presence, "process_of", stopped)
                assert other.take(1) == [(0, 0)]
                monkeypatch.setattr(presence, "process_of", presence_of)
            return wanted

    sleeper.loop._search = Sleepy()  # type: ignore[assignment]
    assert sleeper.take(1) == [(0, 1)], "not the one that was taken meanwhile"
    assert len(trials_of(place)) == 1
    for worker in (sleeper, other):
        worker.study.close()


def test_a_clock_that_jumps_kills_nobody(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Worker(place, configurations=2), Worker(place, configurations=2)
    first.take(1)
    with second.study.deciding():
        pass
    monkeypatch.setattr(presence, "process_of", stopped)

    class Jumping(Clock):
        def time(self) -> float:
            return time.time() + HOUR

    monkeypatch.setattr(presence, "time", Jumping())
    with second.study.deciding():
        assert second.study._turn.alive(first.study._turn.worker)
    for worker in (first, second):
        worker.study.close()


HOLDER = """
    import sys, time
    from tests.store.test_claims import Worker

    worker = Worker(sys.argv[1])
    print(worker.study._turn.worker, worker.take(1), flush=True)
    time.sleep(600)
"""


@pytest.mark.multiprocess
def test_a_process_that_is_stopped_keeps_its_claims_until_it_has_said_nothing_for_long(
    tmp_path: Path, clock: Clock
) -> None:
    place = str(tmp_path / "journal.log")
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", textwrap.dedent(HOLDER), place]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as holder:
        assert holder.stdout is not None
        name = holder.stdout.readline().split()[0]
        storage = open_storage(place)
        turn = SharedTurn(access_to(storage, storage.get_study_id_from_name("s")))
        turn._look()
        clock.ahead += HOUR
        turn._look()
        assert turn.alive(name), "it is at work, whatever its heart says"
        os.kill(holder.pid, signal.SIGSTOP)
        while presence.process_of(holder.pid)[0] not in "Tt":
            time.sleep(0.01)
        turn._look()
        assert not turn.alive(name)
        assert not turn.has_died(name), "nobody is to blame"
        os.kill(holder.pid, signal.SIGCONT)
        while presence.process_of(holder.pid)[0] in "Tt":
            time.sleep(0.01)
        turn._look()
        assert turn.alive(name)
        turn.leave()
        holder.kill()
