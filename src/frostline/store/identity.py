"""What tells a study from others of the same name: in other databases, or in one that was there before."""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING, Any

from frostline.errors import StudyError
from frostline.store.backends.fastest import access_to
from frostline.store.backends.storage import exists, opened

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optuna.storages import BaseStorage

    from frostline.store.backends.storage import Storage

_IDENTITY = "frostline identity"

# It is the name of a folder.
_ALLOWED = re.compile(r"[0-9a-f]{8}")


def identity_in(storage: str | Storage, name: str) -> str:
    """Return the identity of the study ``name``, or a new one if it has none yet: a file is not made by that.

    Raises: StudyError if the storage cannot be read.
    """
    if isinstance(storage, str) and not exists(storage):
        return _new()
    with opened(storage) as place, place.errors():
        try:
            study_id = place.backend.get_study_id_from_name(name)
        except KeyError:
            return _new()
        kept = kept_identity(place.backend, study_id)
        return _new() if kept is None else kept


def settled_identity(backend: BaseStorage, study_id: int, offered: str) -> str:
    """Return the identity of a study, which from now on is ``offered`` if it had none. Called in a worker's turn."""
    kept = kept_identity(backend, study_id)
    if kept is None:
        backend.set_study_user_attr(study_id, _IDENTITY, offered)
        return offered
    return kept


def kept_identity(backend: BaseStorage, study_id: int) -> str | None:
    """Return the identity of a study; "" for one of an earlier version, None for one that nobody has worked on."""
    identity = identity_of(backend.get_study_user_attrs(study_id))
    return identity if identity or access_to(backend, study_id).num_trials() else None


def identity_of(attributes: Mapping[str, Any]) -> str:
    """Return the identity of the study whose user attributes these are, "" if it has none.

    Raises: StudyError if it is damaged.
    """
    identity: Any = attributes.get(_IDENTITY, "")
    if isinstance(identity, str) and (not identity or _ALLOWED.fullmatch(identity)):
        return identity
    raise StudyError("the identity of the study is damaged: use another study name.")


def _new() -> str:
    return uuid.uuid4().hex[:8]
