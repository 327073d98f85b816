"""A study in any of Optuna's storages, read and written through Optuna's own interface."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from optuna.exceptions import UpdateFinishedTrialError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial, TrialState

    from frostline.store.backends.access import Attribute, Claims


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
        with self._writing() as storage:
            for trial_id, claim in claims.known:
                storage.set_trial_system_attr(trial_id, *claim)
            made = [storage.create_new_trial(self._study_id, trial) for trial in claims.new]
            storage.set_study_system_attr(self._study_id, *attribute)
        return made

    def record(self, trial_id: int, rung: int, score: float | None, attribute: Attribute) -> bool:
        """See ``Access``."""
        if attribute[0] in self._storage.get_trial(trial_id).user_attrs:
            return False
        try:
            with self._writing() as storage:
                if score is not None:
                    storage.set_trial_intermediate_value(trial_id, rung, score)
                storage.set_trial_user_attr(trial_id, *attribute)
        except UpdateFinishedTrialError:
            return False
        return True

    def end(self, trial_id: int, state: TrialState, score: float | None, reason: str | None) -> bool:
        """See ``Access``."""
        try:
            with self._writing() as storage:
                if reason is not None:
                    storage.set_trial_user_attr(trial_id, "reason", reason)
                return storage.set_trial_state_values(trial_id, state, None if score is None else [score])
        except UpdateFinishedTrialError:
            return False

    def _writing(self) -> AbstractContextManager[BaseStorage]:
        """Return a context that gives what to write to: what is written in it belongs together."""
        return nullcontext(self._storage)
