"""From what a user types to a task: a built-in name, or ``path/to/file.py:NAME``."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import inspect
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from frostline.errors import OptionError, TaskError
from frostline.process import return_freed_memory
from frostline.protocols import Task

# name on the command line -> the function of ``frostline.tasks`` that makes it, in a module of the same name
_BUILT_IN = (
    "python-source-gpt",
    "digits-resnet",
    "digits-mlp",
    "text-gpt",
    "cifar100-resnet18",
    "random-tokens",
    "random-images",
)

# What every SupervisedTask takes as an option, whatever the function that makes it: how its layers are frozen.
_OF_FREEZING = ("tied", "frozen_statistics", "frozen_dtype", "frozen_placement", "chunked_logits")


def load_task(reference: str, options: Mapping[str, Any]) -> Task:
    """Return the task behind ``reference``; ``options`` are the keyword arguments of the function that makes it.

    How layers are frozen (``tied``, ``frozen_dtype``, ...) may be said of every ``SupervisedTask``.
    Raises: TaskError if there is no such task, or it takes no such option.
    """
    if reference in _BUILT_IN:
        name = reference.replace("-", "_")
        made = getattr(importlib.import_module(f"frostline.tasks.{name}"), name)
    elif ":" in reference:
        made = _named_in_file(reference)
    else:
        raise TaskError(
            f"there is no task {reference!r}: give one of {', '.join(_BUILT_IN)}, or path/to/file.py:NAME."
        )
    # Only now, as it loads torch: a name that is none is refused at once.
    from frostline.training.supervised import SupervisedTask

    of_freezing = _of_freezing(made, options)
    options = {name: value for name, value in options.items() if name not in of_freezing}
    if not _is_task(made):
        made = _call(made, options, reference)
    elif options:
        raise TaskError(f"{reference} is a task already and takes no options, but got {', '.join(options)}.")
    if not _is_task(made):
        raise TaskError(
            f"{reference} is a {type(made).__name__}, not a task: let it be a frostline.SupervisedTask, or a function that "
            f"returns one."
        )
    if of_freezing and not isinstance(made, SupervisedTask):
        raise TaskError(f"{reference} is no frostline.SupervisedTask, and takes no {', '.join(of_freezing)}.")
    task: Task = dataclasses.replace(made, **of_freezing) if of_freezing else made
    return task


def task_named(reference: str, options: list[str] | None) -> Task:
    """Return the task behind ``reference``; where its frozen weights are kept small, let this process be small too."""
    task = load_task(reference, parse_options(options))
    from frostline.training.supervised import keeps_weights_small

    if keeps_weights_small(task):
        return_freed_memory()
    return task


def parse_options(options: list[str] | None) -> dict[str, Any]:
    """Return a task's options from NAME=VALUE: JSON where it is some, else a string."""
    parsed: dict[str, Any] = {}
    for option in options or []:
        name, separator, text = option.partition("=")
        if not separator or not name:
            raise OptionError(f"--set {option!r}: write NAME=VALUE.")
        try:
            parsed[name.replace("-", "_")] = json.loads(text)
        except json.JSONDecodeError:
            parsed[name.replace("-", "_")] = text
    return parsed


def _of_freezing(made: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that are set on the task itself, because the function that makes it does not take them."""
    own = inspect.signature(made).parameters if callable(made) else {}
    return {name: value for name, value in options.items() if name in _OF_FREEZING and name not in own}


def _named_in_file(reference: str) -> Any:
    file, _, name = reference.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise TaskError(f"there is no file {file!r}: give the task as path/to/file.py:NAME.")
    specification = importlib.util.spec_from_file_location(path.stem, path)
    if specification is None or specification.loader is None:
        raise TaskError(f"{file!r} is no Python file: give the task as path/to/file.py:NAME.")
    module = importlib.util.module_from_spec(specification)
    # Pickling and dataclasses look a class up by its module's name; the file's neighbours are importable, as for a script.
    sys.modules[path.stem] = module
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        specification.loader.exec_module(module)
    except Exception as error:
        raise TaskError(f"{file!r} could not be run: {type(error).__name__}: {error}.") from error
    if not hasattr(module, name):
        names = ", ".join(key for key, value in vars(module).items() if _is_task(value)) or "none"
        raise TaskError(f"{file!r} defines no {name!r}; the tasks in it are: {names}.")
    return getattr(module, name)


def _call(made: Any, options: Mapping[str, Any], reference: str) -> Any:
    if not callable(made):
        return made
    try:
        inspect.signature(made).bind(**options)
    except TypeError as error:
        allowed = ", ".join(inspect.signature(made).parameters) or "none"
        raise TaskError(
            f"the task {reference} cannot be made: {error}; its options are: {allowed} (--set NAME=VALUE)."
        ) from error
    return made(**options)


def _is_task(candidate: Any) -> bool:
    needed = {name for name in vars(Task) if not name.startswith("_")} | set(Task.__annotations__)
    # Listed names are not looked up: a fingerprint is a property for which the model would be built.
    listed = set(dir(candidate))
    return not isinstance(candidate, type) and all(name in listed or hasattr(candidate, name) for name in needed)
