"""How the trials and attributes of one study are read and written: through Optuna's interface, whatever the storage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

Attribute = tuple[str, Any]
"""A name, and a value that JSON knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a worker claims in one turn: trials that it makes, and attributes of trials that are there, by their ids."""

    new: Sequence[FrozenTrial] = ()
    known: Sequence[tuple[int, Attribute]] = ()


class Access(Protocol):
    """One study in an Optuna storage. What a method writes is there whole or not at all, where the storage can do that."""

    def trials(self) -> list[FrozenTrial]:
        """Return all trials, by number; their scores may be left out, for they stand in the attributes as well."""
        ...

    def num_trials(self) -> int:
        """Return how many trials there are."""
        ...

    def attributes(self) -> dict[str, Any]:
        """Return the study's system attributes."""
        ...

    def set_attribute(self, attribute: Attribute) -> None:
        """Write a system attribute of the study; of each there is one writer."""
        ...

    def claim(self, claims: Claims, attribute: Attribute) -> list[int]:
        """Write claims, and after them an attribute of the study; return the ids of the trials that were made."""
        ...

    def record(self, trial_id: int, rung: int, score: float | None, attribute: Attribute) -> bool:
        """Write what ended at a rung, the user attribute last, and return True.

        Where that attribute is there already, or the trial has ended, nothing is written: the first record counts.
        """
        ...

    def end(self, trial_id: int, state: TrialState, score: float | None, reason: str | None) -> bool:
        """Give a trial its final state and return True; False if it has ended already."""
        ...


class PublicAccess:
    """Uses nothing but what every Optuna storage has."""

    def __init__(self, storage: BaseStorage, study_id: int) -> None:
        self._storage = storage
        self._study_id = study_id

    def trials(self) -> list[FrozenTrial]:
        """See ``Access``."""
        return self._storage.get_all_trials(self._study_id, deepcopy=False)

    def num_trials(self) -> int:
        """See ``Access``."""
        return self._storage.get_n_trials(self._study_id)

    def attributes(self) -> dict[str, Any]:
        """See ``Access``."""
        return self._storage.get_study_system_attrs(self._study_id)

    def set_attribute(self, attribute: Attribute) -> None:
        """See ``Access``."""
        self._storage.set_study_system_attr(self._study_id, *attribute)

    def claim(self, claims: Claims, attribute: Attribute) -> list[int]:
        """See ``Access``."""
        for trial_id, claim in claims.known:
            self._storage.set_trial_system_attr(trial_id, *claim)
        made = [self._storage.create_new_trial(self._study_id, trial) for trial in claims.new]
        self.set_attribute(attribute)
        return made

    def record(self, trial_id: int, rung: int, score: float | None, attribute: Attribute) -> bool:
        """See ``Access``."""
        if attribute[0] in self._storage.get_trial(trial_id).user_attrs:
            return False
        try:
            if score is not None:
                self._storage.set_trial_intermediate_value(trial_id, rung, score)
            self._storage.set_trial_user_attr(trial_id, *attribute)
        except UpdateFinishedTrialError:
            return False
        return True

    def end(self, trial_id: int, state: TrialState, score: float | None, reason: str | None) -> bool:
        """See ``Access``."""
        try:
            if reason is not None:
                self._storage.set_trial_user_attr(trial_id, "reason", reason)
            return self._storage.set_trial_state_values(trial_id, state, None if score is None else [score])
        except UpdateFinishedTrialError:
            return False


def access_to(storage: BaseStorage, study_id: int) -> Access:
    """Return the fastest way to a study: past Optuna's object mapping where it is a database whose tables are known."""
    from optuna.storages import RDBStorage

    # Optuna (5.0) wraps its RDB storage in a cache, and says nowhere what it wraps.
    database = getattr(storage, "_backend", storage)
    if isinstance(database, RDBStorage):
        from frostline.store.tables import TableAccess, are_known

        if are_known():
            return TableAccess(database, study_id)
    return PublicAccess(storage, study_id)
