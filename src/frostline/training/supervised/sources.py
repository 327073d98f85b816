"""The files that the user's code of a training is in: when they change, what failed may have been mended."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from frostline.inputs.foreign_errors import is_foreign


def source_digest(*parts: object) -> str | None:
    """Return a hash of the files that functions, classes and tasks are defined in; None if there is none to read.

    Of a task, or another dataclass, that is where its class and the functions in its fields are. Files of frostline, of
    libraries and of Python do not count.
    """
    files = {file for part in parts for file in _files_of(part) if is_foreign(file)}
    digest = hashlib.sha256()
    num_read = 0
    for file in sorted(files):
        try:
            digest.update(hashlib.sha256(Path(file).read_bytes()).digest())
            num_read += 1
        except OSError:  # what was typed in, or has been moved meanwhile
            continue
    return digest.hexdigest()[:32] if num_read else None


def _files_of(part: object) -> Iterator[str]:
    yield from _file_of(part)
    if dataclasses.is_dataclass(part) and not isinstance(part, type):
        values: list[Any] = [getattr(part, field.name, None) for field in dataclasses.fields(part)]
        for value in values:
            if callable(value):
                yield from _file_of(value)


def _file_of(part: Any) -> Iterator[str]:
    while isinstance(part, functools.partial):
        part = part.func
    code = part if inspect.isroutine(part) or isinstance(part, type) else type(part)
    try:
        file = inspect.getsourcefile(inspect.unwrap(code))
    except (TypeError, OSError):  # built in, or of no module
        return
    if file is not None:
        yield file
