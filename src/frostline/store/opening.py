"""A study is made, or found and compared with what is asked for; one of which nothing came may be begun anew."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from optuna.exceptions import DuplicatedStudyError
from optuna.storages import BaseStorage
from optuna.study import StudyDirection

from frostline.errors import StudyError
from frostline.process import only_warnings
from frostline.store.backends.fastest import access_to
from frostline.store.backends.storage import Storage
from frostline.store.reading import TERMS, check_study_name, read_terms
from frostline.store.retries import has_only_failed
from frostline.store.sharing.presence import living_workers
from frostline.store.terms import Terms

logger = logging.getLogger(__name__)

_SAME_EVERYWHERE = "have the same task file, options and data on every machine"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenStudy:
    """A study that is there, under the terms that were asked for."""

    study_id: int
    terms: Terms
    is_mended: bool
    """Whether the user's code is another than when it was last worked on. The study does not say so yet: that is written
    down with what is tried once more because of it."""


def open_study(storage: Storage, name: str, terms: Terms) -> OpenStudy:
    """Return the study ``name`` in ``storage``, which is made if it is not there.

    Where it was made under other terms, and nothing came of it but trainings that raised, it is deleted and made anew: a
    model that was mended may be of another shape.
    Raises: StudyError if the storage fails, or holds a study of that name made under other terms; OptionError if that is
        no name.
    """
    check_study_name(name)
    with storage.errors():
        study_id, kept = _made_or_found(storage, name, terms)
        if kept is not None:
            try:
                kept.check_equal(terms, name=name)
            except StudyError:
                access = access_to(storage.backend, study_id)
                is_taken = not storage.is_own or living_workers(access.attributes())
                if is_taken or not has_only_failed(access.trials()):
                    raise
                logger.info("the study %r, in which every training raised, is begun anew under other terms", name)
                storage.backend.delete_study(study_id)
                study_id, kept = _made_or_found(storage, name, terms)
        # None if a process was killed between the two writes of a new study: it is empty, and ours to begin.
        before = terms.source if kept is None else kept.source
        terms = replace(terms, source=terms.source or before)
        recipe = terms.recipe or (None if kept is None else kept.recipe)
        terms = replace(terms, recipe=recipe)
        sized = (terms.expected, recipe, terms.budget)
        if kept is None or (kept.expected, kept.recipe, kept.budget) != sized:
            storage.backend.set_study_user_attr(study_id, TERMS, replace(terms, source=before).record())
    return OpenStudy(study_id=study_id, terms=terms, is_mended=before != terms.source)


def join_study(storage: Storage, name: str, terms: Terms) -> OpenStudy:
    """Return the study ``name``, which is there already, for a worker that makes the same search.

    Raises: StudyError if the storage fails, if there is none, if the worker's search is another one, or if others are at
        work with another version of the user's code.
    """
    check_study_name(name)
    with storage.errors():
        try:
            study_id = storage.backend.get_study_id_from_name(name)
        except KeyError:
            raise StudyError(f"the study {name!r} is not in {storage.shown} any more.") from None
        kept = read_terms(storage.backend, study_id, name=name)
        if kept is None:
            raise StudyError(f"the study {name!r} is empty: start it with `frostline tune TASK --study {name}`.")
        kept.check_equal(terms, name=name, remedy=_SAME_EVERYWHERE)
        source = terms.source or kept.source
        if source != kept.source:
            # Where nobody is at work the code may have been mended; two versions of it at a time are a mistake.
            for worker in living_workers(access_to(storage.backend, study_id).attributes()).values():
                raise StudyError(
                    f"the study {name!r} is searched with another version of the task's file, by process {worker.pid} on "
                    f"{worker.host}: end that first, or have the same file everywhere."
                )
    return OpenStudy(study_id=study_id, terms=replace(kept, source=source), is_mended=source != kept.source)


def _made_or_found(storage: Storage, name: str, terms: Terms) -> tuple[int, Terms | None]:
    """Return the number of a study, and the terms that it was made under."""
    backend = storage.backend
    try:
        # Optuna announces each study that it makes: the line would stand amid the view.
        with only_warnings("optuna.storages"):
            study_id = backend.create_new_study([StudyDirection[terms.direction.upper()]], name)
        backend.set_study_user_attr(study_id, TERMS, terms.record())
    except DuplicatedStudyError:
        study_id = backend.get_study_id_from_name(name)
    kept = read_terms(backend, study_id, name=name)
    if kept is None:
        _refuse_other_direction(backend, study_id, terms, name=name)
    return study_id, kept


def _refuse_other_direction(backend: BaseStorage, study_id: int, terms: Terms, *, name: str) -> None:
    """Raise StudyError if somebody made the study with Optuna for another direction: its best value is not the search's."""
    directions = [each.name.lower() for each in backend.get_study_directions(study_id)]
    if directions != [terms.direction]:
        raise StudyError(
            f"the study {name!r} is to {' and '.join(directions)} its value, and this search to {terms.direction} its "
            f"score: say the same direction, or use another study name."
        )
