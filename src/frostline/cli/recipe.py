"""What is searched, as one object: the options of `frostline tune`, which a study keeps so that a worker needs no others."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import frostline
from frostline.cli.options.arguments import LadderArguments, SamplingArguments
from frostline.cli.options.naming import AUDIT, AUTO
from frostline.cli.options.search_arguments import SearchArguments
from frostline.errors import OptionError, StudyError
from frostline.inputs.task_names import BUILT_IN
from frostline.inputs.whole_numbers import check_seed
from frostline.run.execution.options import OFF
from frostline.search.algorithms.search_names import HALVING, check_several_scores, takes_reduction_factor
from frostline.store.terms import TaskReference

# What lies in such a folder was installed, and is nobody's own task.
_INSTALLED = ("site-packages", "dist-packages")


_GROUPS = ("search", "ladder", "sampling")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that says what is searched, and nothing of where and how it is trained."""

    task: TaskReference
    seed: int
    space: str | None
    """The TOML of another space than the task's."""
    search: SearchArguments
    ladder: LadderArguments
    sampling: SamplingArguments
    """Without the name of the file that ``space`` stood in."""
    version: str = frostline.__version__

    def __post_init__(self) -> None:
        check_seed("--seed", self.seed)
        # For the checks alone.
        self.search.size(self.ladder.search)
        _check_align(self)
        _check_audited(self)
        if self.search.against is not None:
            check_against(self.search.against, self)

    def record(self) -> dict[str, Any]:
        """Return what ``read`` takes, for JSON: the task's file by its path from the current folder, where it lies below."""
        return {
            "version": self.version,
            "task": replace(self.task, name=_from_here(self.task.name)).record(),
            "seed": self.seed,
            "space": self.space,
            **{name: _values(getattr(self, name)) for name in _GROUPS},
        }

    @classmethod
    def read(cls, record: Mapping[str, Any], *, study: str) -> Recipe:
        """Return the recipe that ``record``, found in ``study``, was written from by this version of frostline.

        Raises: StudyError if another version wrote it, or it is damaged.
        """
        version = record.get("version")
        if version != frostline.__version__:
            raise StudyError(
                f"the study {study!r} was begun by frostline {version}, and this is {frostline.__version__}: install "
                f"that version here, or go over to this one with `frostline tune TASK --study {study}` and its options."
            )
        # Slow to import.
        from pydantic import TypeAdapter, ValidationError

        try:
            made = TypeAdapter(cls).validate_python(dict(record))
            if not _is_all_known(record, made):
                raise KeyError
            return made
        except (ValidationError, KeyError):
            raise StudyError(
                f"what the study {study!r} says of its search is damaged: give it anew with `frostline tune TASK --study "
                f"{study}` and its options."
            ) from None

    def naming(self, task: str | None, options: list[str] | None) -> Recipe:
        """Return the recipe with the task's file where it lies on this machine, and with more of the task's options."""
        reference = self.task if task is None else replace(self.task, name=task)
        return replace(self, task=replace(reference, options=(*reference.options, *(options or ()))))

    def check_file(self, *, study: str) -> None:
        """Raise StudyError unless the task is a built-in one, or in a file of the user's own below the current folder.

        A study is not trusted to say which of all files of a machine are run.
        """
        if self.task.name in BUILT_IN:
            return
        path = Path(_file_of(self.task.name))
        is_own = not any(part.startswith(".") or part in _INSTALLED for part in path.parts)
        if path.is_absolute() or not is_own or not _is_below(path, Path.cwd()):
            raise StudyError(
                f"the study {study!r} is about the task {self.task.name}, which is no file below this folder: say with "
                f"--task which file to run, or start the worker where the search was begun."
            )
        if not path.is_file():
            raise StudyError(
                f"the study {study!r} is about the task {self.task.name}, and there is no such file in {Path.cwd()}: start "
                f"the worker where the search was begun, or say with --task where the file is."
            )


def check_against(against: str, recipe: Recipe) -> None:
    """Raise OptionError if what else is said of a search does not go with one against what its models cost."""
    check_several_scores(recipe.sampling.sampler)
    ladder = recipe.ladder.ladder or ""
    for option, is_said in (
        (f"--align {recipe.search.align}", recipe.search.align == AUTO),
        (f"--ladder {ladder}", ladder == AUTO or ladder.startswith(AUDIT)),
    ):
        if is_said:
            raise OptionError(
                f"--against {against} does not go with {option}, which is about the score alone: leave one of them out."
            )


def _check_align(recipe: Recipe) -> None:
    """Raise OptionError if alignment is to be learnt in a search that promotes nobody by a rung."""
    if recipe.search.align == AUTO and not takes_reduction_factor(recipe.ladder.search):
        raise OptionError(
            f"--align {AUTO} goes with --search halving, hyperband or asynchronous, and {recipe.ladder.search} promotes "
            f"nobody: leave one of them out."
        )


def _check_audited(recipe: Recipe) -> None:
    """Raise OptionError if what is said does not go with an audit's ladder: before the audit is made."""
    search, ladder = recipe.search, recipe.ladder.ladder or ""
    if ladder != AUTO and not ladder.startswith(AUDIT):
        return
    if search.budget is not None:
        raise OptionError(
            f"--budget {search.budget}: an audit's ladder is for a number of configurations: leave the budget out."
        )
    if ladder != AUTO or search.align == OFF or search.align.startswith(AUDIT):
        return
    instead = f"make the audit first, with `frostline audit TASK`, and give --ladder {AUDIT}STUDY"
    if search.align != AUTO:
        raise OptionError(
            f"--align {search.align!r}: how many layers the rungs of --ladder {AUTO} train is known after its audit alone: "
            f"{instead}."
        )
    if recipe.ladder.search == HALVING and search.reduction_factor is None:
        raise OptionError(
            f"--align {AUTO} does not go with --ladder {AUTO}, which skips a rung that turns out not to rank: leave one of "
            f"them out, or {instead}."
        )


def _values(group: Any) -> dict[str, Any]:
    """Return the options of a group that are not as by default, for JSON."""
    assert is_dataclass(group)
    return {field.name: value for field in fields(group) if (value := getattr(group, field.name)) != field.default}


def _is_all_known(record: Mapping[str, Any], recipe: Recipe) -> bool:
    """Return whether a record says what ``recipe`` was made from, and nothing more."""
    groups = [(record, recipe), *((record[name], getattr(recipe, name)) for name in _GROUPS)]
    return all(said.keys() <= {field.name for field in fields(group)} for said, group in groups)


def _file_of(reference: str) -> str:
    return reference if reference.endswith(".py") else reference.rpartition(":")[0]


def _from_here(reference: str) -> str:
    """Return a reference to a task with the path of its file from the current folder, if it lies below that."""
    if reference in BUILT_IN or not (file := _file_of(reference)):
        return reference
    path = Path(os.path.abspath(file))  # noqa: PTH100 (links are left as they are: they may be others elsewhere)
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return f"{shown}{reference.removeprefix(file)}"


def _is_below(path: Path, folder: Path) -> bool:
    # Links within the user's folder are the user's own doing; a path that climbs out of it is not.
    return Path(os.path.abspath(folder / path)).is_relative_to(folder)  # noqa: PTH100
