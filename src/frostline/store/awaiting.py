"""Waiting for a study that another process is about to make."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from frostline.errors import StudyError
from frostline.inputs.credentials import without_password
from frostline.store.begun import terms_in
from frostline.store.reading import check_study_name

if TYPE_CHECKING:
    from frostline.store.terms import Terms

# Each of many workers opens the storage so often.
_SECONDS_BETWEEN_LOOKS = 2.0


def awaited_terms(
    storage: str,
    name: str,
    *,
    seconds: float,
    say: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
) -> Terms:
    """Return what the study ``name`` is about as soon as it is there; ``say`` is told, once, that it is waited for.

    Raises: StudyError if it is not there after so many ``seconds``, or frostline did not make it.
    """
    check_study_name(name)
    ends = time.monotonic() + seconds
    has_said = False
    while (terms := terms_in(storage, name)) is None:
        shown = without_password(storage)
        if time.monotonic() >= ends:
            waited = f" after {seconds:g} seconds" if seconds else ""
            raise StudyError(
                f"there is no study {name!r} in {shown}{waited}: begin it with `frostline tune TASK --study {name} "
                f"--for-workers`, or wait for it with --wait SECONDS."
            )
        if not has_said:
            say(f"there is no study {name!r} in {shown} yet: waiting for it, for up to {seconds:g} seconds")
            has_said = True
        sleep(min(_SECONDS_BETWEEN_LOOKS, max(0.0, ends - time.monotonic())))
    return terms
