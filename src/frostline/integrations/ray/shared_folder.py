"""Whether a folder is the same one on two machines: the driver leaves a token in it, and a node says what it finds there."""

from __future__ import annotations

import uuid
from contextlib import suppress
from typing import TYPE_CHECKING

from frostline.errors import OptionError
from frostline.folders.local_folder import LocalFolder

if TYPE_CHECKING:
    from frostline.folders.folder import Folder

_TOKEN = ".frostline-shared"  # noqa: S105


def token_in(runs: Folder) -> str:
    """Return what tells ``runs`` from a folder of the same name elsewhere; it stays there. Raises: OptionError."""
    try:
        if isinstance(runs, LocalFolder):
            runs.path.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError), (runs.path / _TOKEN).open("x") as new:
                new.write(uuid.uuid4().hex)
        elif not _tokens(runs):
            # Two drivers may do so at once: either finds its own.
            name = f"{_TOKEN}-{uuid.uuid4().hex}"
            with runs.new_file(prefix=name) as file:
                file.named(name)
        return _tokens(runs)[0]
    except OSError as error:
        reason = error.strerror or error
        raise OptionError(f"{runs} cannot be written ({reason}): name another folder (--runs).") from None


def token_seen(runs: Folder, token: str) -> str:
    """Return ``token`` if it is in ``runs`` as this machine sees it, else another one. Raises: OSError if none is."""
    tokens = _tokens(runs)
    if not tokens:
        raise FileNotFoundError("it is empty there")
    return token if token in tokens else tokens[0]


def _tokens(runs: Folder) -> list[str]:
    if isinstance(runs, LocalFolder):
        return [(runs.path / _TOKEN).read_text()]
    return [name.removeprefix(f"{_TOKEN}-") for name in runs.names(f"{_TOKEN}-")]
