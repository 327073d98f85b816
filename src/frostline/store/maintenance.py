"""What is done to a study beside a search: what failed is to be tried once more, or all of it is deleted."""

from __future__ import annotations

from frostline.errors import StudyError
from frostline.store.backends.fastest import access_to
from frostline.store.backends.storage import Storage, opened
from frostline.store.identity import identity_of
from frostline.store.reading import TERMS, found_study, read_study
from frostline.store.sharing.presence import living_workers
from frostline.store.study import SearchStudy


def retry_failed(storage: str | Storage, name: str, *, every: bool = False) -> list[int]:
    """Let what failed in the study ``name`` be tried once more when its search is run again; return the configurations.

    With ``every`` also what ran out of memory and what processes died of. See ``store.retries``.
    Raises: StudyError as ``read_study``.
    """
    with opened(storage, must_exist=True) as place:
        stored = read_study(place, name)
        if stored.distributions is None:
            return []
        study = SearchStudy.open(place, name, terms=stored.terms, space=stored.distributions)
        try:
            return study.retry_failed(every=every)
        finally:
            study.close()


def contents_of(storage: str | Storage, name: str) -> tuple[int, str]:
    """Return how many trials the study ``name`` holds, whatever is in them, and its identity.

    Raises: StudyError if there is none of that name, or frostline did not make it.
    """
    with found_study(storage, name) as (place, study_id):
        held = access_to(place.backend, study_id).num_trials()
        attributes = place.backend.get_study_user_attrs(study_id)
        if held and TERMS not in attributes:
            raise StudyError(
                f"the study {name!r} holds trials that frostline did not make: use another study name."
            )
        return held, identity_of(attributes)


def delete_study(storage: str | Storage, name: str) -> None:
    """Delete the study ``name``.

    Raises: StudyError if there is none of that name, or a process works on it.
    """
    with found_study(storage, name) as (place, study_id):
        for worker in living_workers(access_to(place.backend, study_id).attributes()).values():
            raise StudyError(
                f"the study {name!r} is being searched, by process {worker.pid} on {worker.host}: end that first."
            )
        place.backend.delete_study(study_id)
