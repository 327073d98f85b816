"""From what a user types to a task: a built-in name, or ``path/to/file.py:NAME``."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

from frostline.errors import FrostlineError, TaskError
from frostline.inputs.foreign_errors import foreign_error, is_foreign
from frostline.inputs.json_values import parse_assignments
from frostline.inputs.safe_names import check_name
from frostline.inputs.task_names import BUILT_IN
from frostline.inputs.whole_numbers import check_whole, shown
from frostline.process import return_freed_memory
from frostline.protocols import Task, is_task
from frostline.records import Direction
from frostline.tasks.option_types import check_options, options_of

# What every SupervisedTask takes as an option, whatever the function that makes it: how its layers are frozen, what weights
# they start from, how many processes fetch its data, and whether it is judged by its end.
_OF_EVERY_TASK = (
    "tied",
    "frozen_statistics",
    "frozen_dtype",
    "frozen_placement",
    "chunked_logits",
    "pretrained",
    "new_modules",
    "num_workers",
    "keep_best",
)


def load_task(reference: str, options: Mapping[str, Any]) -> Task:
    """Return the task behind ``reference``; ``options`` are the keyword arguments of the function that makes it.

    How layers are frozen (``tied``, ``frozen_dtype``, ...), what they start from (``pretrained``, ``new_modules``),
    ``num_workers`` and ``keep_best`` may be said of every ``SupervisedTask``.
    Raises: TaskError if there is no such task, or it takes no such option.
    """
    if reference in BUILT_IN:
        name = reference.replace("-", "_")
        made = getattr(importlib.import_module(f"frostline.tasks.builtin.{name}"), name)
    elif ":" in reference:
        made = _named_in_file(reference)
    elif reference.endswith(".py"):
        made = _only_task_in(reference)
    else:
        raise TaskError(
            f"there is no task {reference!r}: give one of {', '.join(BUILT_IN)}, path/to/file.py, or "
            f"path/to/file.py:NAME."
        )
    # Only now, as it loads torch: a name that is none is refused at once.
    from frostline.training.supervised.supervised_task import SupervisedTask

    of_the_task = _of_every_task(made, options)
    options = {name: value for name, value in options.items() if name not in of_the_task}
    if not is_task(made):
        made = _call(made, options, reference)
    elif options:
        raise TaskError(f"{reference} is a task already and takes no options, but got {', '.join(options)}.")
    if not is_task(made):
        raise TaskError(
            f"{reference} is a {type(made).__name__}, not a task: let it be a frostline.SupervisedTask, or a function that "
            f"returns one."
        )
    _check_facts(made, reference)
    if of_the_task and not isinstance(made, SupervisedTask):
        raise TaskError(f"{reference} is no frostline.SupervisedTask, and takes no {', '.join(of_the_task)}.")
    task: Task = dataclasses.replace(made, **of_the_task) if of_the_task else made
    return task


def _check_facts(task: Task, reference: str) -> None:
    """Check what a task says of itself, whoever made it. Raises: TaskError; OptionError if its name is none."""
    from frostline.search.spaces.space import SearchSpace

    check_name("task", task.name)
    check_name("unit of samples", task.sample_unit)
    if task.direction not in get_args(Direction):
        allowed = " or ".join(map(repr, get_args(Direction)))
        raise TaskError(f"direction of {reference} is {shown(task.direction)}, but must be {allowed}.")
    check_whole(f"full_samples of {reference}", task.full_samples)
    for name, kind in (("space", SearchSpace), ("defaults", Mapping)):
        if not isinstance(getattr(task, name), kind):
            raise TaskError(
                f"{name} of {reference} is {shown(getattr(task, name))}, but must be a {kind.__name__}."
            )


def task_named(reference: str, options: list[str] | None) -> Task:
    """Return the task behind ``reference``; where its frozen weights are kept small, let this process be small too."""
    task = load_task(reference, parse_assignments("--set", options))
    from frostline.training.supervised.supervised_task import keeps_weights_small

    if keeps_weights_small(task):
        return_freed_memory()
    return task


def _of_every_task(made: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that are set on the task itself, because the function that makes it does not take them."""
    return {
        # JSON has no tuples.
        name: tuple(value) if isinstance(value, list) else value
        for name, value in options.items()
        if name in _OF_EVERY_TASK and name not in options_of(made)
    }


def _named_in_file(reference: str) -> Any:
    file, _, name = reference.rpartition(":")
    module = _run(file)
    if not hasattr(module, name):
        names = ", ".join(_tasks_in(module)) or "none"
        raise TaskError(f"{file!r} defines no {name!r}; the tasks in it are: {names}.")
    return getattr(module, name)


def _only_task_in(file: str) -> Any:
    """Return the task that a file holds. Raises: TaskError if it holds none, or several."""
    tasks = _tasks_in(_run(file))
    if len(tasks) == 1:
        return next(iter(tasks.values()))
    if not tasks:
        raise TaskError(
            f"{file!r} holds no task: let it hold a frostline.SupervisedTask, or name a function that returns one, as "
            f"{file}:NAME."
        )
    names = ", ".join(tasks)
    raise TaskError(f"{file!r} holds several tasks, {names}: say which, such as {file}:{next(iter(tasks))}.")


def _tasks_in(module: ModuleType) -> dict[str, Any]:
    """Return the tasks of a module by their names, each once."""
    tasks = {name: value for name, value in vars(module).items() if is_task(value)}
    first = {id(value): name for name, value in reversed(tasks.items())}
    return {name: value for name, value in tasks.items() if first[id(value)] == name}


def _run(file: str) -> ModuleType:
    """Return the module that a file of the user's defines."""
    path = Path(file)
    if not path.is_file():
        raise TaskError(f"there is no file {file!r}: give the task as path/to/file.py:NAME.")
    specification = importlib.util.spec_from_file_location(path.stem, path)
    if specification is None or specification.loader is None:
        raise TaskError(f"{file!r} is no Python file: give the task as path/to/file.py:NAME.")
    loaded = getattr(sys.modules.get(path.stem), "__file__", None)
    if path.stem in sys.stdlib_module_names or (loaded is not None and not is_foreign(loaded)):
        raise TaskError(
            f"{file!r} is called like the module {path.stem!r}, which it would replace: rename the file."
        )
    module = importlib.util.module_from_spec(specification)
    # Pickling and dataclasses look a class up by its module's name; the file's neighbours are importable, as for a script.
    sys.modules[path.stem] = module
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        specification.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise TaskError(f"{file!r} could not be run: {foreign_error(error)}.") from error
    return module


def _call(made: Any, options: Mapping[str, Any], reference: str) -> Any:
    if not callable(made):
        return made
    try:
        inspect.signature(made).bind(**options)
    except TypeError as error:
        allowed = ", ".join(options_of(made)) or "none"
        raise TaskError(
            f"the task {reference} cannot be made: {error}; its options are: {allowed} (--set NAME=VALUE)."
        ) from error
    except ValueError:
        raise TaskError(f"{reference} says of itself no options: let it be a function of your own.") from None
    try:
        task = made(**options)
    except FrostlineError:
        raise
    except (Exception, SystemExit) as error:
        # An error far inside says less than that an option is of the wrong type.
        check_options(made, options)
        given = ", ".join(f"{name}={shown(value)}" for name, value in options.items())
        raise TaskError(
            f"the task {reference} cannot be made{f' with {given}' if given else ''}: {foreign_error(error)}."
        ) from error
    check_options(made, options)
    return task
