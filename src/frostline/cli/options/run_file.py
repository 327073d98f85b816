"""A whole run in a file: ``--config run.toml`` says any option of a command by its long name."""

from __future__ import annotations

import difflib
import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from frostline.errors import OptionError
from frostline.inputs.whole_numbers import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

# What says how a command is called, not what it does.
_NOT_IN_FILES = {"config", "help", "help_all"}


def read_run_file(context: typer.Context, path: Path | None) -> Path | None:
    """Let what the file says stand where the command line says nothing.

    Raises: OptionError if it cannot be read, or says what is no option of the command.
    """
    if path is not None:
        context.default_map = _values(path, _parameters(context))
    return path


def show_all_options(context: typer.Context, asked: bool) -> None:
    """Show the help with all options, and end the command."""
    if not asked:
        return
    for parameter in context.command.params:
        parameter.hidden = False  # type: ignore[attr-defined]
    typer.echo(context.get_help(), nl=False)
    raise typer.Exit


def _parameters(context: typer.Context) -> dict[str, Any]:
    """Return what a file may say, by the name it has there: an option's longest, or an argument's own."""
    parameters: dict[str, Any] = {}
    for parameter in context.command.params:
        assert parameter.name is not None
        if parameter.name not in _NOT_IN_FILES:
            long_names = [option.removeprefix("--") for option in parameter.opts if option.startswith("--")]
            parameters[long_names[0] if long_names else parameter.name] = parameter
            parameters |= dict.fromkeys(_opposites(parameter), parameter)
    return parameters


def _opposites(parameter: Any) -> list[str]:
    """Return the names that switch a flag off."""
    return [option.removeprefix("--") for option in parameter.secondary_opts]


def _values(path: Path, parameters: Mapping[str, Any]) -> dict[str, Any]:
    try:
        record = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise OptionError(f"--config {path}: there is no such file.") from None
    except ValueError as error:  # no TOML, or no text
        raise OptionError(f"--config {path}: it is no TOML ({error}).") from None
    values: dict[str, object] = {}
    for key, value in record.items():
        if key not in parameters:
            close = difflib.get_close_matches(key, parameters, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"it may say {', '.join(sorted(parameters))}."
            raise OptionError(f"--config {path}: {shown(key)} is no option of this command: {hint}")
        parameter = parameters[key]
        if parameter.name in values:
            raise OptionError(f"--config {path}: {key} is said twice, by its opposite too: leave one of them out.")
        said = _value(path, key, value, parameter)
        values[parameter.name] = not said if key in _opposites(parameter) else said
    return values


def _value(path: Path, key: str, value: object, parameter: Any) -> object:
    """Return a value as words of the command line would be: text, but for what is on or off."""
    if getattr(parameter, "is_flag", False):
        if not isinstance(value, bool):
            raise OptionError(f"--config {path}: {key} is {shown(value)}, but must be true or false.")
        return value
    if getattr(parameter, "multiple", False):
        if isinstance(value, dict):
            return [f"{name}={_word(path, name, one)}" for name, one in value.items()]
        return [_word(path, key, one) for one in (value if isinstance(value, list) else [value])]
    if isinstance(value, dict) and key == "configuration":
        return json.dumps(value)
    if isinstance(value, dict | list):
        raise OptionError(f"--config {path}: {key} is {shown(value)}, but must be one text or number.")
    return _word(path, key, value)


def _word(path: Path, key: str, value: object) -> str:
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value)
    except TypeError:
        raise OptionError(f"--config {path}: {key} is {value}, but must be text or a number.") from None
