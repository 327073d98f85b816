"""What an objective was given beside its trial: one function may train on many data sets, each of them another search."""

from __future__ import annotations

import argparse
import hashlib
import inspect
import os
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import Any

from frostline.layers.cutting.nesting import leaves
from frostline.objectives.training import function_of

_PLAIN = (bool, int, float, str, type(None), os.PathLike)
_DIGITS = 12

# More is data, and takes time to hash.
_MOST_PARTS = 1_000
_MOST_CHARACTERS = 10_000


def arguments_of(objective: Any) -> str:
    """Return names of what ``objective`` was given, each with a hash of its value, where that is plain; "" if nothing was.

    They come from ``functools.partial``, defaults, names of its module or of a function around it, or the attributes of an
    object. A value may be secret, and is not repeated.
    """
    given: dict[str, str] = {}
    # What comes later takes the place of a default.
    for name, value in dict(_given(objective)).items():
        text = _text(value)
        if text is not None:
            given[name] = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
    return " ".join(f"{name}={digest}" for name, digest in sorted(given.items()))


def other_arguments(begun: str, now: str) -> list[str]:
    """Return the names of those that have another value in ``now`` than in ``begun``, both from ``arguments_of``."""
    before, after = (
        {part[0]: part[2] for part in (each.partition("=") for each in text.split())} for text in (begun, now)
    )
    return sorted(name for name in before.keys() & after.keys() if before[name] != after[name])


def _given(objective: Any) -> Iterator[tuple[str, Any]]:
    function = function_of(objective)
    routine = function if inspect.isroutine(function) else type(function).__call__
    owner = getattr(function, "__self__", None if routine is function else function)
    if not inspect.ismodule(owner):  # what is written in C is of one
        yield from getattr(owner, "__dict__", {}).items()
    if inspect.isfunction(plain := inspect.unwrap(getattr(routine, "__func__", routine))):
        with suppress(ValueError):  # something around it that is not there yet
            used = inspect.getclosurevars(plain)
            yield from (*used.globals.items(), *used.nonlocals.items())
        parameters = [*inspect.signature(plain).parameters.values()]
        yield from ((each.name, each.default) for each in parameters if each.default is not each.empty)
        if isinstance(objective, partial):
            yield from zip((each.name for each in parameters), objective.args, strict=False)
    if isinstance(objective, partial):
        yield from objective.keywords.items()


def _text(value: Any) -> str | None:
    """Return what tells a small plain value from another one; None if it is something else, such as a data set."""
    if isinstance(value, argparse.Namespace):
        value = vars(value)
    try:
        parts = [*islice(leaves(value), _MOST_PARTS + 1)]
        is_plain = all(isinstance(part, _PLAIN) for part in parts) and len(parts) <= _MOST_PARTS
        if is_plain and sum(len(part) for part in parts if isinstance(part, str)) <= _MOST_CHARACTERS:
            return repr(value)
    except Exception:  # of a class of theirs
        return None
    return None
