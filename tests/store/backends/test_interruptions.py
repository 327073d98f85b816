"""Signals that come while a study is read or written: all is written, and no transaction stays open."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState
from sqlalchemy import event

from frostline.store.backends.access import Claims
from frostline.store.backends.any_storage import PublicAccess
from frostline.store.backends.interruptions import UninterruptedAccess
from frostline.store.backends.tables import TableAccess
from tests.store.backends.test_access import NEW


@pytest.fixture(autouse=True)
def python_s_own_handler() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.signal(signal.SIGINT, before) is signal.default_int_handler


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
