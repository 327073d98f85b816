"""Options that travel together arrive as one object: typer sees the fields, the command gets the dataclass."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from frostline.cli.options.run_file import read_run_file, show_all_options

WHAT, HOW, WHERE = "What to search", "How to train", "Where"
"""The parts of a command's help."""


@dataclasses.dataclass(frozen=True)
class _Calling:
    """What every command with groups takes besides."""

    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE.toml",
            is_eager=True,
            callback=read_run_file,
            help="Options by their names; others here win.",
            rich_help_panel=WHERE,
        ),
    ] = None
    help_all: Annotated[
        bool,
        typer.Option(
            "--help-all",
            is_eager=True,
            callback=show_all_options,
            help="Show all options.",
            rich_help_panel=WHERE,
        ),
    ] = False


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Return ``command`` with each parameter that is a dataclass spread out into the dataclass's fields.

    Fields are declared as parameters of a typer command are, ``Annotated`` with their option or argument. Each group is made
    before the command runs, so that a value that its ``__post_init__`` refuses is refused before anything is loaded.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if dataclasses.is_dataclass(hint)}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name in groups:
            parameters += _parameters_of(groups[parameter.name])
        else:
            parameters.append(
                parameter.replace(annotation=hints[parameter.name], kind=inspect.Parameter.KEYWORD_ONLY)
            )

    hides = any(getattr(option, "hidden", False) for hint in parameters for option in hint.annotation.__metadata__)
    # Of a command that hides nothing all is shown.
    parameters += [one for one in _parameters_of(_Calling) if hides or one.name != "help_all"]

    @functools.wraps(command)
    def spread(**values: Any) -> None:
        # They have done what they do before.
        for field in dataclasses.fields(_Calling):
            values.pop(field.name, None)
        # A group may be called as an option of another one is.
        made = {
            name: group(**{field.name: values.pop(field.name) for field in dataclasses.fields(group)})
            for name, group in groups.items()
        }
        command(**values, **made)

    # What typer reads: the signature, and the annotations by name.
    spread.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    spread.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return spread


def _parameters_of(group: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in dataclasses.fields(group)
    ]
