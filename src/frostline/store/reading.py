"""Looking at a study: everything that it holds, read at once, whatever becomes of the storage afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

from frostline.errors import OptionError, SearchSpaceError, StudyError
from frostline.inputs.credentials import holds_password, without_password
from frostline.inputs.safe_names import check_name
from frostline.search.history import History
from frostline.search.spaces.space import SearchSpace
from frostline.store.backends.fastest import access_to
from frostline.store.backends.storage import Storage, opened
from frostline.store.identity import identity_of
from frostline.store.parsing import parse_lines, parse_table
from frostline.store.retries import counting_trials
from frostline.store.terms import Terms
from frostline.store.trials import read_trial

TERMS = "frostline"
"""The user attribute of a study that holds its terms."""

_NOTE = f"{TERMS} "

READINGS_NOTE = "readings"
"""Under this key a search that learned how to read its rungs leaves the sentences that say so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredStudy:
    """A study as it was when it was read."""

    name: str
    place: str
    """The storage that it lies in, as the user gave it."""
    terms: Terms
    history: History
    notes: Mapping[str, Any]
    """JSON values that were left in it beside the search itself, by key: as they are, unchecked."""
    distributions: SearchSpace | None
    """The space that its configurations were drawn from; None while it holds none."""
    identity: str
    """What tells it from others of its name; "" for those of earlier versions."""

    def lines(self, key: str) -> list[str]:
        """Return the lines of text that were left under ``key``, none if nothing was. Raises: StudyError if damaged."""
        return parse_lines(key, self.notes.get(key) or [])

    def table(self, key: str) -> dict[int, dict[str, float]]:
        """Return the rows of numbers that were left under ``key``, none if nothing was. Raises: StudyError if damaged."""
        return parse_table(key, self.notes.get(key) or {})

    @property
    def space(self) -> SearchSpace:
        """The space that its configurations were drawn from. Raises: StudyError while it holds none."""
        if self.distributions is None:
            raise StudyError(f"the study {self.name!r} holds no configuration yet: let it run on.")
        return self.distributions


def read_study(storage: str | Storage, name: str) -> StoredStudy:
    """Return what the study ``name`` holds; the task itself, its data and its model, is not needed.

    Raises: StudyError if there is none of that name, or one that frostline did not make.
    """
    with found_study(storage, name) as (place, study_id):
        terms = read_terms(place.backend, study_id, name=name)
        if terms is None:
            raise StudyError(f"the study {name!r} is empty: start it with `frostline tune TASK --study {name}`.")
        with place.reading_errors():
            trials = access_to(place.backend, study_id).trials()
            attributes = place.backend.get_study_user_attrs(study_id)
        history = History(terms.direction)
        for trial in counting_trials(trials):
            read_trial(trial, history, terms.rungs)
            # Whoever was left behind before the search was given more does not compete with those that came after.
            if trial.state.is_finished():
                history.eliminate(len(history.configurations) - 1)
        return StoredStudy(
            name=name,
            place=place.place,
            terms=terms,
            history=history,
            notes={key.removeprefix(_NOTE): value for key, value in attributes.items() if key.startswith(_NOTE)},
            distributions=_space_of(trials[0], name=name) if trials else None,
            identity=identity_of(attributes),
        )


def write_note(storage: str | Storage, name: str, key: str, value: Any) -> None:
    """Leave a JSON value under ``key`` in the study ``name``. Raises: StudyError as ``read_study``."""
    with found_study(storage, name) as (place, study_id):
        place.backend.set_study_user_attr(study_id, f"{_NOTE}{key}", value)


def read_terms(backend: BaseStorage, study_id: int, *, name: str) -> Terms | None:
    """Return the terms of a study, or None if it is new and empty; StudyError if it is somebody else's."""
    record = backend.get_study_user_attrs(study_id).get(TERMS)
    if record is not None:
        return Terms.parse(record)
    if backend.get_n_trials(study_id) > 0:
        raise StudyError(f"the study {name!r} holds trials that frostline did not make: use another study name.")
    return None


def check_study_name(name: str) -> None:
    """Raise OptionError unless ``name`` may be a study's: printable text, which is shown, so that it holds no password."""
    check_name("study", name)
    if holds_password(name):
        raise OptionError(
            f"the study {without_password(name)!r} is named like a URL with a password, and names are shown: give a "
            f"database as the storage, and the study another name."
        )


def _space_of(trial: FrozenTrial, *, name: str) -> SearchSpace:
    try:
        return SearchSpace(distributions=trial.distributions)
    except SearchSpaceError as error:
        raise StudyError(f"trial {trial.number} of the study {name!r} has no search space: {error}") from error


@contextmanager
def found_study(storage: str | Storage, name: str) -> Iterator[tuple[Storage, int]]:
    """Return the storage, opened, and the number of the study ``name`` in it, for as long as the context lasts."""
    check_study_name(name)
    with opened(storage, must_exist=True) as place, place.errors():
        try:
            study_id = place.backend.get_study_id_from_name(name)
        except KeyError:
            known = ", ".join(sorted(f"{study.study_name}" for study in place.backend.get_all_studies())) or "none"
            raise StudyError(f"there is no study {name!r} in {place.shown}; there are: {known}.") from None
        yield place, study_id
