"""Looking at a study again and again while others work on it, and reading little of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frostline.errors import StudyError
from frostline.store.backends.fastest import access_to
from frostline.store.reading import read_terms
from frostline.store.sharing.presence import Watch, living_workers
from frostline.store.sharing.shared_history import SharedHistory

if TYPE_CHECKING:
    from frostline.search.history import History
    from frostline.store.backends.storage import Storage
    from frostline.store.sharing.presence import Presence
    from frostline.store.terms import Terms

# Reading all trials takes at most one part in so many of the time.
_PAUSES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """A study as it was when it was looked at."""

    terms: Terms
    history: History
    """What is under way in it is pending."""
    workers: Mapping[str, Presence]
    """Those that are alive, by what claims call them."""


class StudyWatch:
    """A study that others work on, read as little as possible: writes nothing, and is no worker.

    Of every worker one small record is read at each look; the trials only if one of them has written something since.
    """

    def __init__(self, storage: Storage, study_id: int, *, name: str) -> None:
        self._storage, self._study_id, self._name = storage, study_id, name
        self._access = access_to(storage.backend, study_id)
        self._watch = Watch()
        self._written: Mapping[str, int] | None = None
        """How many pieces of news each living worker had told when the trials were read; None: they are to be read."""
        self._read_at, self._reading_seconds = 0.0, 0.0
        self._terms: Terms | None = None
        self._known: SharedHistory | None = None
        self.num_readings = 0
        """How often all trials were read."""

    def look(self) -> Sight:
        """Return what there is. Raises: StudyError if the storage fails, or the study is not there any more."""
        with self._storage.errors():
            workers = living_workers(self._access.attributes(), self._watch)
            written = {worker: presence.sent for worker, presence in workers.items()}
            now = time.monotonic()
            if written != self._written and now - self._read_at >= _PAUSES * self._reading_seconds:
                self._read(workers)
                self._written = written
                self._read_at, self._reading_seconds = time.monotonic(), time.monotonic() - now
        assert self._terms is not None
        assert self._known is not None
        return Sight(terms=self._terms, history=self._known.history, workers=workers)

    def _read(self, workers: Mapping[str, Any]) -> None:
        try:
            terms = read_terms(self._storage.backend, self._study_id, name=self._name)
        except KeyError:
            terms = None
        if terms is None:
            raise StudyError(
                f"the study {self._name!r} is empty: start it with `frostline tune TASK --study {self._name}`."
            )
        known = SharedHistory(terms.direction, terms.rungs)
        known.read(self._access.trials(), workers.__contains__)
        self._terms, self._known = terms, known
        self.num_readings += 1
