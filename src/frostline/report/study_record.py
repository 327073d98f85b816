"""What a report is made from: a study, looked at and never written to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from frostline.search.spaces.space import SearchSpace
from frostline.store.reading import READINGS_NOTE, read_study

if TYPE_CHECKING:
    from frostline.search.history import History
    from frostline.store.backends.storage import Storage
    from frostline.store.terms import Terms


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRecord:
    """A study as it was when it was read."""

    name: str
    storage: str
    terms: Terms
    history: History
    space: SearchSpace
    """All that was tuned: what configurations were drawn from, and what an objective asked for under a condition."""
    readings: tuple[str, ...] = ()
    """How a search that learned to read its rungs of few layers read them, in sentences."""


def read_record(storage: str | Storage, name: str) -> StudyRecord:
    """Return what the study ``name`` in ``storage`` holds; the task itself, its data and its model, is not needed.

    Raises: StudyError if there is no such study, it is not frostline's, or nothing has been drawn yet.
    """
    study = read_study(storage, name)
    return StudyRecord(
        name=name,
        storage=study.place,
        terms=study.terms,
        history=study.history,
        space=_all_of(study.space, study.history),
        readings=tuple(study.lines(READINGS_NOTE)),
    )


def _all_of(drawn: SearchSpace, history: History) -> SearchSpace:
    """Return the space of all that was asked for: that which was drawn, and what came under a condition."""
    distributions = dict(drawn.distributions)
    for evaluation in history.evaluations():
        for name, distribution in evaluation.ranges.items():
            distributions.setdefault(name, distribution)
    return SearchSpace(distributions=distributions)
