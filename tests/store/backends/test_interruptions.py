"""Signals that come while a study is read or written: they wait, no transaction stays open, and a second one is heard."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState
from sqlalchemy import event

from frostline.store.backends.access import Claims
from frostline.store.backends.any_storage import PublicAccess
from frostline.store.backends.interruptions import UninterruptedAccess, uninterrupted
from frostline.store.backends.tables import TableAccess
from tests.store.backends.test_access import NEW


class ToldToEndError(Exception):
    """What a handler of this test's own raises."""


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    to_end = signal.getsignal(signal.SIGTERM)
    yield
    assert signal.signal(signal.SIGINT, before) is signal.default_int_handler
    signal.signal(signal.SIGTERM, to_end)


def end(_number: int, _frame: object) -> None:
    raise ToldToEndError


@pytest.fixture
def done() -> list[str]:
    return []


@uninterrupted()
def told_meanwhile(done: list[str], *, number: signal.Signals = signal.SIGINT, times: int = 1) -> None:
    for _ in range(times):
        signal.raise_signal(number)
    done.append("after the signal")


def test_a_signal_waits_for_the_end_and_the_handler_is_back(done: list[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        told_meanwhile(done)
    assert done == ["after the signal"]
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_within_another_it_waits_for_the_outer_end(done: list[str]) -> None:
    @uninterrupted()
    def outer() -> None:
        told_meanwhile(done)
        done.append("within the outer one")

    with pytest.raises(KeyboardInterrupt):
        outer()
    assert done == ["after the signal", "within the outer one"]


def test_a_second_signal_is_heard_at_once(done: list[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        told_meanwhile(done, times=2)
    assert done == []


def test_each_signal_has_its_own_handler(done: list[str]) -> None:
    signal.signal(signal.SIGTERM, end)
    with pytest.raises(ToldToEndError):
        told_meanwhile(done, number=signal.SIGTERM)
    assert done == ["after the signal"]


def test_an_error_within_goes_along_with_what_was_told() -> None:
    @uninterrupted()
    def failing() -> None:
        signal.raise_signal(signal.SIGINT)
        raise ValueError("the storage failed")

    with pytest.raises(KeyboardInterrupt) as caught:
        failing()
    assert isinstance(caught.value.__context__, ValueError)


def test_a_thread_leaves_the_handlers_alone() -> None:
    seen = []

    def look() -> None:
        with uninterrupted():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]


@pytest.mark.parametrize("kind", [TableAccess, PublicAccess])
def test_what_is_interrupted_is_written_whole_and_locks_nobody_out(
    kind: type[TableAccess | PublicAccess], tmp_path: Path
) -> None:
    def opened() -> RDBStorage:
        return RDBStorage(f"sqlite:///{tmp_path}/s.db", engine_kwargs={"connect_args": {"timeout": 0.1}})

    storage, other = opened(), opened()
    study_id = storage.create_new_study([StudyDirection.MINIMIZE], "s")
    trial_id = storage.create_new_trial(study_id, NEW)
    access = UninterruptedAccess(kind(storage, study_id))
    told: list[bool] = []

    @event.listens_for(storage.engine, "after_cursor_execute")
    def interrupt(*_: object) -> None:
        if not told:
            told.append(True)
            signal.raise_signal(signal.SIGINT)

    calls: dict[str, Callable[[], object]] = {
        "trials": access.trials,
        "num_trials": access.num_trials,
        "attributes": access.attributes,
        "set_attribute": lambda: access.set_attribute(("name", 1)),
        "claim": lambda: access.claim(Claims(new=[NEW, NEW], known=[(trial_id, ("claim 1", "x"))]), ("turn", 1)),
        "record": lambda: access.record(trial_id, 0, 2.5, ("rung 0", {})),
        "end": lambda: access.end(trial_id, TrialState.COMPLETE, 2.5, "reached the top"),
    }
    held = []
    for name, call in calls.items():
        told.clear()
        with pytest.raises(KeyboardInterrupt) as caught:
            call()
        held.append(caught)  # as whoever handles it holds its traceback, and what that passed through
        other.set_study_system_attr(study_id, name, None)
    assert access.attributes()["turn"] == 1
    first, *made = access.trials()
    assert len(made) == 2
    assert first.system_attrs["claim 1"] == "x"
    assert first.user_attrs == {"rung 0": {}, "reason": "reached the top"}
    assert first.state == TrialState.COMPLETE
    for database in (storage, other):
        database.engine.dispose()
