"""Which way to a study is taken in which storage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.store.backends.any_storage import PublicAccess
from frostline.store.backends.interruptions import UninterruptedAccess

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

    from frostline.store.backends.access import Access


def access_to(storage: BaseStorage, study_id: int) -> Access:
    """Return the fastest way to a study: past Optuna's own where it is a database or a journal whose insides are known."""
    from optuna.storages import InMemoryStorage, JournalStorage, RDBStorage

    if isinstance(storage, InMemoryStorage):
        # It has no transaction to be left open, and making signals wait takes as long as all that is written.
        return PublicAccess(storage, study_id)
    if isinstance(storage, JournalStorage):
        from frostline.store.backends.journals import JournalAccess, is_known

        if is_known(storage):
            return UninterruptedAccess(JournalAccess(storage, study_id))
    # Optuna (5.0) wraps its RDB storage in a cache, and says nowhere what it wraps.
    database = getattr(storage, "_backend", storage)
    if isinstance(database, RDBStorage):
        from frostline.store.backends.tables import TableAccess, are_known

        if are_known():
            return UninterruptedAccess(TableAccess(database, study_id))
    return UninterruptedAccess(PublicAccess(storage, study_id))
