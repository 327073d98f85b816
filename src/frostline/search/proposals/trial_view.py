"""A storage that shows Optuna's samplers the trials of a search, which only the search itself changes."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, NoReturn

from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

if TYPE_CHECKING:
    from collections.abc import Container

    from frostline.records import Direction

_STUDY_ID = 0
STUDY_NAME = "draws"


class TrialView(BaseStorage):
    """One study of trials that their owner keeps, and changes as it likes; a sampler may write attributes beside them.

    Optuna's own storages let no trial change that has ended: a promoted configuration is pruned, and then gets better.
    Trial k has the number and the id k.
    """

    def __init__(self, direction: Direction, *, costs_count: bool = False) -> None:
        self.trials: list[FrozenTrial] = []
        self._directions = [StudyDirection[direction.upper()]]
        if costs_count:
            self._directions.append(StudyDirection.MINIMIZE)
        self._attributes: dict[str, Any] = {}

    def trial(self, number: int) -> FrozenTrial:
        """Return a trial to change, made as a running one if there are not as many yet."""
        while len(self.trials) <= number:
            self.trials.append(_running(len(self.trials)))
        return self.trials[number]

    # D102: what follows is Optuna's interface, and documented there.

    def get_study_id_from_name(self, study_name: str) -> int:  # noqa: D102
        assert study_name == STUDY_NAME
        return _STUDY_ID

    def get_study_name_from_id(self, study_id: int) -> str:  # noqa: ARG002, D102
        return STUDY_NAME

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:  # noqa: ARG002, D102
        return self._directions

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:  # noqa: ARG002, D102
        return {}

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:  # noqa: ARG002, D102
        return self._attributes

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:  # noqa: ARG002, D102
        self._attributes = {**self._attributes, key: value}

    def get_trial(self, trial_id: int) -> FrozenTrial:  # noqa: D102
        return self.trials[trial_id]

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:  # noqa: D102
        # A copy: whoever holds the trial goes on seeing what it was, as with Optuna's own storages.
        trial = copy.copy(self.trials[trial_id])
        trial.system_attrs = {**trial.system_attrs, key: value}
        self.trials[trial_id] = trial

    def get_all_trials(  # noqa: D102
        self,
        study_id: int,  # noqa: ARG002
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        trials = [trial for trial in self.trials if states is None or trial.state in states]
        return copy.deepcopy(trials) if deepcopy else trials

    def _refuse(self, *_arguments: Any, **_keywords: Any) -> NoReturn:
        raise NotImplementedError("a sampler reads the trials of a search: it neither makes nor changes any.")

    create_new_study = delete_study = get_all_studies = set_study_user_attr = _refuse
    create_new_trial = set_trial_param = set_trial_state_values = _refuse
    set_trial_intermediate_value = set_trial_user_attr = _refuse


def _running(number: int) -> FrozenTrial:
    return FrozenTrial(
        number=number,
        trial_id=number,
        state=TrialState.RUNNING,
        value=None,
        datetime_start=None,
        datetime_complete=None,
        params={},
        distributions={},
        user_attrs={},
        system_attrs={},
        intermediate_values={},
    )
