"""Every way to a study reads and writes the same: Optuna's own interface, and the tables of a database."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import event

from frostline.store.backends import tables
from frostline.store.backends.access import Access, Claims
from frostline.store.backends.any_storage import PublicAccess, access_to
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

Way = Callable[[BaseStorage, int], Access]


@pytest.fixture(params=["database", "database, by Optuna's interface", "journal", "memory"])
def way(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[BaseStorage, int, Access]:
    place = {"journal": str(tmp_path / "s.log"), "memory": ":memory:"}.get(
        request.param, f"sqlite:///{tmp_path}/s.db"
    )
    storage = open_storage(place)
    study_id = storage.create_new_study([StudyDirection.MINIMIZE], "s")
    storage.create_new_trial(storage.create_new_study([StudyDirection.MINIMIZE], "another"))
    make: Way = PublicAccess if "interface" in request.param else access_to
    access = make(storage, study_id)
    assert isinstance(access, TableAccess if request.param == "database" else PublicAccess)
    return storage, study_id, access


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
    assert isinstance(reader, TableAccess)
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
    event.listen(reader._engine, "before_cursor_execute", end_it)
    (read,) = reader.trials()
    event.remove(reader._engine, "before_cursor_execute", end_it)
    assert num_statements >= 4
    assert read.state is TrialState.RUNNING or read.user_attrs == {"rung 0": {}}
    close_storage(storage)


def test_tables_that_are_not_known_are_left_to_optuna(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    storage = open_storage(f"sqlite:///{tmp_path}/s.db")
    assert isinstance(access_to(storage, 1), TableAccess)
    monkeypatch.setattr(tables, "_COLUMNS", {tables._TRIALS: {"trial_id", "something_new"}})
    assert isinstance(access_to(storage, 1), PublicAccess)
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
