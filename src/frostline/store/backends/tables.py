"""A study in the tables of Optuna's database storage, read and written in few statements.

Optuna (5.0) makes a trial of five hyperparameters in 23 statements, each through SQLAlchemy's object mapping, and reads ten
thousand trials as objects of a hundred thousand rows: seconds where here it is tenths. What lies in the tables is what
Optuna itself would have written. See docs/decisions/0025.
"""

from __future__ import annotations

import datetime as dt
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from optuna.distributions import BaseDistribution, distribution_to_json, json_to_distribution
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import func, select

if TYPE_CHECKING:
    from optuna.storages import RDBStorage
    from sqlalchemy.engine import Connection, Row

    from frostline.store.backends.access import Attribute, Claims

_TRIALS = models.TrialModel.__table__
_PARAMETERS = models.TrialParamModel.__table__
_SCORES = models.TrialIntermediateValueModel.__table__
_VALUES = models.TrialValueModel.__table__
_OF_TRIAL = models.TrialSystemAttributeModel.__table__
_OF_USER = models.TrialUserAttributeModel.__table__
_OF_STUDY = models.StudySystemAttributeModel.__table__
_STUDIES = models.StudyModel.__table__

# What is relied upon. A later Optuna whose tables are others is read and written through its own interface.
_COLUMNS: Mapping[Any, set[str]] = {
    _TRIALS: {"trial_id", "number", "study_id", "state", "datetime_start", "datetime_complete"},
    _PARAMETERS: {"param_id", "trial_id", "param_name", "param_value", "distribution_json"},
    _SCORES: {
        "trial_intermediate_value_id",
        "trial_id",
        "step",
        "intermediate_value",
        "intermediate_value_type",
    },
    _VALUES: {"trial_value_id", "trial_id", "objective", "value", "value_type"},
    _OF_TRIAL: {"trial_system_attribute_id", "trial_id", "key", "value_json"},
    _OF_USER: {"trial_user_attribute_id", "trial_id", "key", "value_json"},
    _OF_STUDY: {"study_system_attribute_id", "study_id", "key", "value_json"},
}

_OPEN = (TrialState.RUNNING, TrialState.WAITING)


class TableAccess:
    """A study in a database, as ``store.backends.access.Access`` says."""

    def __init__(self, storage: RDBStorage, study_id: int) -> None:
        self._storage = storage  # which would be closed if nobody held it
        self._engine = storage.engine
        # A single statement is whole by itself: it saves the server two answers.
        self._at_once = storage.engine.execution_options(isolation_level="AUTOCOMMIT")
        self._study_id = study_id
        self._distributions: dict[str, BaseDistribution] = {}

    def trials(self) -> list[FrozenTrial]:
        """See ``Access``: without scores and times, which stand in the attributes or are not asked for."""
        # Each statement sees what was committed when it began: SQLite's driver begins no transaction to read, PostgreSQL's
        # isolates none. So they go against the order of writing, a trial, its claims, its records, its end: no trial is read
        # as ended without the records that ended it.
        query = select(_TRIALS.c.trial_id, _TRIALS.c.number, _TRIALS.c.state)
        with self._engine.connect() as connection:
            ordered = query.where(_TRIALS.c.study_id == self._study_id).order_by(_TRIALS.c.number)
            found = connection.execute(ordered).all()
            parameters = _by_trial(self._rows(connection, _PARAMETERS, "param_id"))
            of_trial = _by_trial(self._rows(connection, _OF_TRIAL, "trial_system_attribute_id"))
            of_user = _by_trial(self._rows(connection, _OF_USER, "trial_user_attribute_id"))
        return [
            self._trial(row, parameters[row.trial_id], of_user[row.trial_id], of_trial[row.trial_id])
            for row in found
        ]

    def num_trials(self) -> int:
        """See ``Access``."""
        query = select(func.count()).select_from(_TRIALS).where(_TRIALS.c.study_id == self._study_id)
        with self._at_once.connect() as connection:
            return connection.execute(query).scalar_one()

    def attributes(self) -> dict[str, Any]:
        """See ``Access``."""
        query = select(_OF_STUDY.c.key, _OF_STUDY.c.value_json).where(_OF_STUDY.c.study_id == self._study_id)
        with self._at_once.connect() as connection:
            return {key: json.loads(value) for key, value in connection.execute(query)}

    def set_attribute(self, attribute: Attribute) -> None:
        """See ``Access``."""
        with self._at_once.connect() as connection:
            self._set_attribute(connection, attribute)

    def claim(self, claims: Claims, attribute: Attribute) -> list[int]:
        """See ``Access``."""
        with self._engine.begin() as connection:
            # A write comes first: SQLite lets a transaction that has begun to read fail where it then has to wait to write.
            self._set_attribute(connection, attribute)
            for trial_id, claim in claims.known:
                _put_attribute(connection, _OF_TRIAL, trial_id, claim)
            return [self._make(connection, trial) for trial in claims.new]

    def record(self, trial_id: int, rung: int, score: float | None, attribute: Attribute) -> bool:
        """See ``Access``."""
        name, value = attribute
        with self._engine.begin() as connection:
            if not _hold(connection, trial_id) or _has_attribute(connection, trial_id, name):
                return False
            if score is not None:
                kind = models.TrialIntermediateValueModel.TrialIntermediateValueType.FINITE
                values = {"intermediate_value": score, "intermediate_value_type": kind}
                _put(connection, _SCORES, {"trial_id": trial_id, "step": rung}, values)
            row = {"trial_id": trial_id, "key": name, "value_json": json.dumps(value)}
            connection.execute(_OF_USER.insert(), row)
        return True

    def end(self, trial_id: int, state: TrialState, score: float | None, reason: str | None) -> bool:
        """See ``Access``."""
        now = dt.datetime.now(dt.UTC).replace(tzinfo=None)
        with self._engine.begin() as connection:
            ending = _TRIALS.update().where(_TRIALS.c.trial_id == trial_id, _TRIALS.c.state.in_(_OPEN))
            if connection.execute(ending.values(state=state, datetime_complete=now)).rowcount == 0:
                return False
            if reason is not None:
                _put_attribute(connection, _OF_USER, trial_id, ("reason", reason))
            if score is not None:
                kind = models.TrialValueModel.TrialValueType.FINITE
                _put(
                    connection,
                    _VALUES,
                    {"trial_id": trial_id, "objective": 0},
                    {"value": score, "value_type": kind},
                )
        return True

    def _rows(self, connection: Connection, table: Any, order: str) -> Iterable[Row[Any]]:
        """Return the rows of all trials of the study in one of their tables."""
        query = select(table).join(_TRIALS, _TRIALS.c.trial_id == table.c.trial_id)
        ordered = query.where(_TRIALS.c.study_id == self._study_id).order_by(table.c[order])
        return connection.execute(ordered).all()  # row by row takes three times as long

    def _trial(
        self,
        row: Row[Any],
        parameters: Sequence[Row[Any]],
        of_user: Sequence[Row[Any]],
        of_trial: Sequence[Row[Any]],
    ) -> FrozenTrial:
        distributions = {each.param_name: self._distribution(each.distribution_json) for each in parameters}
        return FrozenTrial(
            number=row.number,
            trial_id=row.trial_id,
            state=row.state,
            value=None,
            datetime_start=None,
            datetime_complete=None,
            params={
                each.param_name: distributions[each.param_name].to_external_repr(each.param_value)
                for each in parameters
            },
            distributions=distributions,
            user_attrs={each.key: json.loads(each.value_json) for each in of_user},
            system_attrs={each.key: json.loads(each.value_json) for each in of_trial},
            intermediate_values={},
        )

    def _distribution(self, text: str) -> BaseDistribution:
        if text not in self._distributions:
            self._distributions[text] = json_to_distribution(text)
        return self._distributions[text]

    def _set_attribute(self, connection: Connection, attribute: Attribute) -> None:
        name, value = attribute
        _put(connection, _OF_STUDY, {"study_id": self._study_id, "key": name}, {"value_json": json.dumps(value)})

    def _make(self, connection: Connection, trial: FrozenTrial) -> int:
        # Whoever makes a trial holds the study's row, as Optuna's own storage does, so that no number comes twice.
        connection.execute(
            select(_STUDIES.c.study_id).where(_STUDIES.c.study_id == self._study_id).with_for_update()
        )
        last = select(func.max(_TRIALS.c.number)).where(_TRIALS.c.study_id == self._study_id)
        number = connection.execute(last).scalar()
        began = trial.datetime_start
        row = {
            "number": 0 if number is None else number + 1,
            "study_id": self._study_id,
            "state": trial.state,
            "datetime_start": None if began is None else began.astimezone(dt.UTC).replace(tzinfo=None),
        }
        key = connection.execute(_TRIALS.insert(), row).inserted_primary_key
        assert key is not None
        trial_id: int = key[0]
        parameters = [
            {
                "trial_id": trial_id,
                "param_name": name,
                "param_value": distribution.to_internal_repr(trial.params[name]),
                "distribution_json": distribution_to_json(distribution),
            }
            for name, distribution in trial.distributions.items()
        ]
        attributes = [
            {"trial_id": trial_id, "key": name, "value_json": json.dumps(value)}
            for name, value in trial.system_attrs.items()
        ]
        connection.execute(_PARAMETERS.insert(), parameters)
        connection.execute(_OF_TRIAL.insert(), attributes)
        return trial_id


def are_known() -> bool:
    """Return whether the tables of this Optuna's database storage are those that are known here."""
    return all({column.name for column in table.columns} == names for table, names in _COLUMNS.items())


def _by_trial(rows: Iterable[Row[Any]]) -> defaultdict[int, list[Row[Any]]]:
    grouped: defaultdict[int, list[Row[Any]]] = defaultdict(list)
    for row in rows:
        grouped[row.trial_id].append(row)
    return grouped


def _hold(connection: Connection, trial_id: int) -> bool:
    """Return whether a trial is still open, and let nobody end it before the transaction is over."""
    where = (_TRIALS.c.trial_id == trial_id, _TRIALS.c.state.in_(_OPEN))
    return connection.execute(_TRIALS.update().where(*where).values(state=_TRIALS.c.state)).rowcount > 0


def _has_attribute(connection: Connection, trial_id: int, name: str) -> bool:
    query = select(_OF_USER.c.key).where(_OF_USER.c.trial_id == trial_id, _OF_USER.c.key == name)
    return connection.execute(query).first() is not None


def _put_attribute(connection: Connection, table: Any, trial_id: int, attribute: Attribute) -> None:
    name, value = attribute
    _put(connection, table, {"trial_id": trial_id, "key": name}, {"value_json": json.dumps(value)})


def _put(connection: Connection, table: Any, key: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Write a row of ``table`` over the one with the same key, if there is one; its key has one writer."""
    changing = table.update().where(*(table.c[name] == value for name, value in key.items())).values(**values)
    if connection.execute(changing).rowcount == 0:
        connection.execute(table.insert(), {**key, **values})
