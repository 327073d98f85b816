"""Every way to a study reads and writes the same: Optuna's own interface, and the tables of a database."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import event

from frostline.store.backends import journals, tables
from frostline.store.backends.access import Access, Claims
from frostline.store.backends.any_storage import PublicAccess
from frostline.store.backends.fastest import access_to
from frostline.store.backends.interruptions import UninterruptedAccess
from frostline.store.backends.journals import JournalAccess
from frostline.store.backends.storage import close_storage, open_storage
from frostline.store.backends.tables import TableAccess

PARAMS = {"rate": 0.25, "optimizer": "SGD", "nesterov": True}
NEW = create_trial(
    state=TrialState.RUNNING,
    params=PARAMS,
    distributions={
        "rate": FloatDistribution(1e-3, 1.0, log=True),
        "optimizer": CategoricalDistribution(["Adam", "SGD"]),
        "nesterov": CategoricalDistribution([True, False]),
    },
    system_attrs={"claim": {"worker": "w"}, "sampler": {}},
)


WAYS = {"database": TableAccess, "journal": JournalAccess, "memory": PublicAccess}


@pytest.fixture(params=[*WAYS, "database, by Optuna's interface", "journal, by Optuna's interface"])
def way(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[BaseStorage, int, Access]:
    kind, _, by_optuna = request.param.partition(", ")
    places = {"database": f"sqlite:///{tmp_path}/s.db", "journal": str(tmp_path / "s.log"), "memory": ":memory:"}
    place = places[kind]
    storage = open_storage(place)
    study_id = storage.create_new_study([StudyDirection.MINIMIZE], "s")
    storage.create_new_trial(storage.create_new_study([StudyDirection.MINIMIZE], "another"))
    if by_optuna:
        return storage, study_id, PublicAccess(storage, study_id)
    access = access_to(storage, study_id)
    assert type(way_of(access)) is WAYS[kind]
    return storage, study_id, access


def way_of(access: Access) -> Access:
    """Return what reads and writes, while signals wait or not."""
    return access.within if isinstance(access, UninterruptedAccess) else access


def trials_of(storage: BaseStorage, study_id: int) -> list[FrozenTrial]:
    return storage.get_all_trials(study_id)


def test_trials_are_made_numbered_and_read(way: tuple[BaseStorage, int, Access]) -> None:
    storage, study_id, access = way
    assert access.trials() == []
    (first,) = access.claim(Claims(new=[NEW]), ("turn", 1))
    second, third = access.claim(Claims(new=[NEW, NEW], known=[(first, ("claim 1", "x"))]), ("turn", None))
    assert access.attributes() == {"turn": None}
    assert access.num_trials() == 3
    by_optuna = trials_of(storage, study_id)
    assert [trial._trial_id for trial in by_optuna] == [first, second, third]
    for trials in (access.trials(), by_optuna):
        assert [trial.number for trial in trials] == [0, 1, 2]
        assert trials[0].system_attrs == {"claim": {"worker": "w"}, "sampler": {}, "claim 1": "x"}
        assert trials[2].system_attrs == NEW.system_attrs
        assert all(trial.params == PARAMS for trial in trials)
        assert all(trial.distributions == NEW.distributions for trial in trials)
        assert all(trial.state is TrialState.RUNNING for trial in trials)
    assert all(trial.datetime_start is not None and trial.datetime_complete is None for trial in by_optuna)


def test_the_first_record_of_a_rung_counts(way: tuple[BaseStorage, int, Access]) -> None:
    storage, study_id, access = way
    (trial_id,) = access.claim(Claims(new=[NEW]), ("turn", 1))
    assert access.record(trial_id, 0, 2.5, ("rung 0", {"seconds": 1}))
    assert access.record(trial_id, 1, None, ("rung 1", {"seconds": 2}))
    assert not access.record(trial_id, 0, 3.5, ("rung 0", {"seconds": 3}))
    (trial,) = trials_of(storage, study_id)
    assert trial.intermediate_values == {0: 2.5}
    assert trial.user_attrs == {"rung 0": {"seconds": 1}, "rung 1": {"seconds": 2}}
    assert access.trials()[0].user_attrs == trial.user_attrs


def test_a_score_whose_record_was_never_written_is_written_over(way: tuple[BaseStorage, int, Access]) -> None:
    storage, study_id, access = way
    (trial_id,) = access.claim(Claims(new=[NEW]), ("turn", 1))
    storage.set_trial_intermediate_value(trial_id, 0, 9.0)
    assert access.record(trial_id, 0, 2.5, ("rung 0", {"seconds": 1}))
    assert trials_of(storage, study_id)[0].intermediate_values == {0: 2.5}


@pytest.mark.parametrize(
    ("state", "score", "reason"),
    [(TrialState.COMPLETE, 1.5, None), (TrialState.PRUNED, None, "it diverged"), (TrialState.FAIL, None, "why")],
)
def test_a_trial_ends_once(
    state: TrialState, score: float | None, reason: str | None, way: tuple[BaseStorage, int, Access]
) -> None:
    storage, study_id, access = way
    (trial_id,) = access.claim(Claims(new=[NEW]), ("turn", 1))
    assert access.end(trial_id, state, score, reason)
    assert not access.end(trial_id, TrialState.COMPLETE, 9.0, None)
    assert not access.record(trial_id, 0, 2.5, ("rung 0", {"seconds": 1}))
    (trial,) = trials_of(storage, study_id)
    assert (trial.state, trial.value) == (state, score)
    assert trial.user_attrs == ({} if reason is None else {"reason": reason})
    assert trial.datetime_complete is not None
    assert access.trials()[0].state is state


@pytest.mark.parametrize("moment", range(1, 5))
def test_a_trial_that_ends_while_all_are_read_is_read_with_what_ended_it(moment: int, tmp_path: Path) -> None:
    storage = open_storage(f"sqlite:///{tmp_path}/s.db")
    study_id = storage.create_new_study([StudyDirection.MINIMIZE], "s")
    access, reader = access_to(storage, study_id), access_to(storage, study_id)
    tables_of = way_of(reader)
    assert isinstance(tables_of, TableAccess)
    (trial_id,) = access.claim(Claims(new=[NEW]), ("turn", 1))
    num_statements = 0

    def end_it(*_: object) -> None:
        nonlocal num_statements
        num_statements += 1
        if num_statements == moment:
            access.record(trial_id, 0, 2.5, ("rung 0", {}))
            access.end(trial_id, TrialState.PRUNED, 2.5, None)

    # What others write between two statements of a reader is seen by the second alone: on every database, for SQLite's
    # driver begins no transaction to read, and PostgreSQL's sees what was committed by then.
    event.listen(tables_of._engine, "before_cursor_execute", end_it)
    (read,) = reader.trials()
    event.remove(tables_of._engine, "before_cursor_execute", end_it)
    assert num_statements >= 4
    assert read.state is TrialState.RUNNING or read.user_attrs == {"rung 0": {}}
    close_storage(storage)


def test_tables_that_are_not_known_are_left_to_optuna(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    storage = open_storage(f"sqlite:///{tmp_path}/s.db")
    assert isinstance(way_of(access_to(storage, 1)), TableAccess)
    monkeypatch.setattr(tables, "_COLUMNS", {tables._TRIALS: {"trial_id", "something_new"}})
    assert type(way_of(access_to(storage, 1))) is PublicAccess
    close_storage(storage)


def test_what_is_written_fast_is_a_study_like_any_other(tmp_path: Path) -> None:
    storage = open_storage(f"sqlite:///{tmp_path}/s.db")
    access = access_to(storage, storage.create_new_study([StudyDirection.MINIMIZE], "s"))
    for score in (2.0, 1.0, 3.0):
        (trial_id,) = access.claim(Claims(new=[NEW]), ("turn", None))
        access.record(trial_id, 0, score, ("rung 0", {}))
        access.end(trial_id, TrialState.COMPLETE, score, None)
    study = optuna.load_study(study_name="s", storage=storage)
    assert (study.best_trial.number, study.best_value) == (1, 1.0)
    study.optimize(lambda trial: trial.suggest_float("rate", 1e-3, 1.0, log=True), n_trials=1)
    assert [trial.number for trial in study.trials] == [0, 1, 2, 3]
    close_storage(storage)


def test_a_journal_whose_insides_are_not_known_is_left_to_optuna(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    storage = open_storage(f"{tmp_path}/s.log")
    assert isinstance(way_of(access_to(storage, 0)), JournalAccess)
    monkeypatch.setattr(journals, "_NAMES", {JournalStorage._write_log: {"something_new"}})
    assert type(way_of(access_to(storage, 0))) is PublicAccess


def test_a_journal_holds_the_entries_that_optuna_would_have_made(tmp_path: Path) -> None:
    def written(make: Callable[[JournalStorage, int], Access]) -> list[dict[str, Any]]:
        place = tmp_path / f"{make}.log"
        storage = open_storage(str(place))
        assert isinstance(storage, JournalStorage)
        access = make(storage, storage.create_new_study([StudyDirection.MINIMIZE], "s"))
        first, second = access.claim(Claims(new=[NEW, NEW]), ("turn", 1))
        access.claim(Claims(known=[(first, ("claim 1", "x")), (second, ("claim 1", "y"))]), ("turn", None))
        access.record(first, 0, 2.5, ("rung 0", {"seconds": 1}))
        access.record(second, 0, None, ("rung 0", {"seconds": 2}))
        access.end(first, TrialState.COMPLETE, 2.5, None)
        access.end(second, TrialState.FAIL, None, "why")
        access.record(second, 1, 1.0, ("rung 1", {}))
        # Each worker's own, and the time.
        told = [json.loads(line) for line in place.read_text().splitlines()]
        assert len({entry.pop("worker_id") for entry in told}) == 1
        for entry in told:
            entry.pop("datetime_complete", None)
        return told

    assert written(JournalAccess)[:-2] == written(PublicAccess)[:-1], "but for what came after the end"


def test_what_belongs_together_is_appended_to_a_journal_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    storage = open_storage(f"{tmp_path}/s.log")
    access = access_to(storage, storage.create_new_study([StudyDirection.MINIMIZE], "s"))
    appended = list[int]()
    append = JournalFileBackend.append_logs

    def counted(backend: JournalFileBackend, logs: list[dict[str, Any]]) -> None:
        appended.append(len(logs))
        append(backend, logs)

    monkeypatch.setattr(JournalFileBackend, "append_logs", counted)
    (trial_id,) = access.claim(Claims(new=[NEW]), ("turn", 1))
    access.record(trial_id, 0, 2.5, ("rung 0", {}))
    access.end(trial_id, TrialState.FAIL, None, "why")
    assert appended == [2, 2, 2]


def test_after_what_a_journal_refuses_everything_is_read_on(tmp_path: Path) -> None:
    storage = open_storage(f"{tmp_path}/s.log")
    access = access_to(storage, storage.create_new_study([StudyDirection.MINIMIZE], "s"))
    (trial_id,) = access.claim(Claims(new=[NEW]), ("turn", 1))
    # Another worker ends it, and this one does not know of it yet.
    open_storage(f"{tmp_path}/s.log").set_trial_state_values(trial_id, TrialState.PRUNED, [1.0])
    assert not access.end(trial_id, TrialState.FAIL, None, "two entries, each of which is refused")
    assert access.attributes() == {"turn": 1}
    (second,) = access.claim(Claims(new=[NEW]), ("turn", None))
    assert [trial._trial_id for trial in access.trials()] == [trial_id, second]
    assert access.trials()[0].user_attrs == {}


def test_two_workers_in_one_process_are_told_of_their_own_trials(tmp_path: Path) -> None:
    storage = open_storage(f"{tmp_path}/s.log")
    accesses = [access_to(storage, storage.create_new_study([StudyDirection.MINIMIZE], name)) for name in "abcd"]
    made: dict[int, list[int]] = {}

    def work(place: int) -> None:
        made[place] = [
            trial_id for _ in range(20) for trial_id in accesses[place].claim(Claims(new=[NEW, NEW]), ("turn", 1))
        ]

    threads = [threading.Thread(target=work, args=[place]) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for place, access in enumerate(accesses):
        assert made[place] == [trial._trial_id for trial in access.trials()]
        assert len(made[place]) == 40
