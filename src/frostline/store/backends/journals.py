"""A study in a journal of Optuna's, to which what belongs together is appended at once.

Optuna (5.0) locks the file and waits for the disk once for every entry, of which an evaluation has six: a third of what it
takes. What is appended is what Optuna itself would have written. See docs/decisions/0025.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend

from frostline.store.backends.any_storage import PublicAccess

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

    from frostline.store.backends.access import Attribute, Claims


class JournalAccess(PublicAccess):
    """A study in a journal file, as ``store.backends.access.Access`` says; it reads as from any storage."""

    def __init__(self, storage: JournalStorage, study_id: int) -> None:
        super().__init__(storage, study_id)
        self._journal = storage
        self._last_made = -1
        """The id of the trial that was made last."""

    def claim(self, claims: Claims, attribute: Attribute) -> list[int]:
        """See ``Access``."""
        made = super().claim(claims, attribute)
        # The ids of what one entry after the other makes follow each other.
        return [self._last_made - later for later in reversed(range(len(made)))]

    @contextmanager
    def _writing(self) -> Iterator[BaseStorage]:
        """Return a storage of which every entry is appended at the end; ids of trials are known only then."""
        collected = _Collected()
        entries = JournalStorage(collected)
        # What it returns of each trial that it makes.
        entries._replay_result._last_created_trial_id_by_this_process = -1
        yield entries
        journal, known = self._journal, self._journal._replay_result
        refusal: UpdateFinishedTrialError | None = None
        with journal._thread_lock:
            # By its worker an entry is known as one's own: who made a trial is told its id, and refusals.
            journal._backend.append_logs([{**entry, "worker_id": known.worker_id} for entry in collected.entries])
            while True:
                try:
                    journal._sync_with_backend()
                    break
                except UpdateFinishedTrialError as error:
                    # What comes after an entry that is refused is read all the same: here, and not by who reads next.
                    refusal = error
            self._last_made = getattr(known, "_last_created_trial_id_by_this_process", -1)
        if refusal is not None:
            raise refusal


class _Collected(BaseJournalBackend):
    """A journal that is only written, and kept nowhere."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:  # noqa: ARG002
        return iter(())

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self.entries += logs


# What is relied upon, as Optuna's own methods name it. A later one is read and written through its own interface.
_NAMES = {
    JournalStorage.create_new_trial: {
        "_thread_lock",
        "_sync_with_backend",
        "_last_created_trial_id_by_this_process",
    },
    JournalStorage._write_log: {"_replay_result", "worker_id", "_backend", "append_logs"},
}


def is_known(journal: JournalStorage) -> bool:
    """Return whether a journal lies in a file, and its insides are those that are known here."""
    is_file = type(getattr(journal, "_backend", None)) is JournalFileBackend
    return is_file and all(names <= {*method.__code__.co_names} for method, names in _NAMES.items())
