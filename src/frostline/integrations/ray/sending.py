"""What travels to other machines: pickled with the user's own modules in it, so that they need not be installed there."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from frostline.errors import OptionError
from frostline.inputs.foreign_errors import is_foreign


def pickled(work: Any, *, what: str, owner: Any) -> bytes:
    """Return ``work`` as bytes that another machine loads without the modules of the user.

    Raises: OptionError if that cannot be, which says at which attribute of ``owner``, called ``what``.
    """
    cloudpickle = importlib.import_module("ray.cloudpickle")
    try:
        with _by_value(cloudpickle):
            contents: bytes = cloudpickle.dumps(work)
    except Exception as error:
        name = _culprit(owner, cloudpickle)
        where = f", because of its attribute {name!r}" if name else ""
        raise OptionError(
            f"{what} cannot be sent to other machines{where} ({type(error).__name__}: {' '.join(str(error).split())}): let "
            f"it open files, connections and locks where they are used."
        ) from error
    return contents


@contextmanager
def _by_value(cloudpickle: ModuleType) -> Iterator[None]:
    """Let the modules of the user be part of what is pickled."""
    own = [module for module in [*sys.modules.values()] if _is_own(module)]
    for module in own:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in own:
            cloudpickle.unregister_pickle_by_value(module)


def _is_own(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    # A module of theirs may hide in ``sys.modules`` under another name.
    is_there = sys.modules.get(getattr(module, "__name__", "")) is module
    return isinstance(file, str) and is_there and module.__name__ != "__main__" and is_foreign(file)


def _culprit(owner: Any, cloudpickle: ModuleType) -> str | None:
    """Return the first attribute of ``owner`` that cannot be pickled by itself; None if each can."""
    names = (
        [field.name for field in dataclasses.fields(owner)]
        if dataclasses.is_dataclass(owner)
        else [*getattr(owner, "__dict__", {})]
    )
    for name in names:
        try:
            with _by_value(cloudpickle):
                cloudpickle.dumps(getattr(owner, name))
        except Exception:
            return name
    return None
