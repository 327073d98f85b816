"""What a study was begun with, the ladder and what else may be left open: whoever goes on and names none keeps it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from frostline.errors import LadderError
from frostline.search.ladder import Ladder
from frostline.store.backends.storage import Storage, exists, opened
from frostline.store.reading import read_terms

if TYPE_CHECKING:
    from frostline.store.terms import Terms


def begun_ladder(terms: Terms | None, usual: Ladder) -> Ladder:
    """Return the ladder that a study of ``terms`` climbs; ``usual`` if there is none yet, or it is about another model."""
    if terms is None or terms.num_layers != usual.num_layers or terms.rungs[-1] != usual.rungs[-1]:
        return usual
    # What a sweep evaluates at is no ladder.
    with suppress(LadderError):
        return Ladder(rungs=terms.rungs, num_layers=usual.num_layers, full_samples=usual.full_samples)
    return usual


def begun_horizon(terms: Terms | None, usual: str) -> str:
    """Return the horizon that a study of ``terms`` trains under; ``usual`` if there is none, or nobody knows it."""
    return usual if terms is None or terms.training is None else terms.training.horizon


def begun_statistics(terms: Terms | None) -> str | None:
    """Return by which statistics a study of ``terms`` scores; None if there is none, or nobody knows it."""
    return None if terms is None or terms.training is None else terms.training.statistics


def begun_against(terms: Terms | None, said: str | None) -> str | None:
    """Return what counts beside the score: what is said, else what a study of ``terms`` was begun with."""
    return terms.against if said is None and terms is not None else said


def terms_in(storage: str | Storage, name: str) -> Terms | None:
    """Return what the study ``name`` is about; None if there is none, or it is empty: a file is not made by that.

    Raises: StudyError if the storage cannot be read, or the study is somebody else's.
    """
    if isinstance(storage, str) and not exists(storage):
        return None
    with opened(storage) as place, place.errors():
        try:
            study_id = place.backend.get_study_id_from_name(name)
        except KeyError:
            return None
        return read_terms(place.backend, study_id, name=name)
