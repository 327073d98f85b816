"""The command line: its commands, and errors as lines. Commands load what they need, such as torch, when they are called."""

from __future__ import annotations

import errno
import io
import logging
import os
import shlex
import sys
from typing import Annotated

import typer

import frostline
from frostline.cli.commands.audit_command import audit_command
from frostline.cli.commands.best_command import best_command
from frostline.cli.commands.cost_command import cost_command
from frostline.cli.commands.delete_command import delete_command
from frostline.cli.commands.fit_command import fit_command
from frostline.cli.commands.ladder_command import ladder_command
from frostline.cli.commands.layers_command import layers_command
from frostline.cli.commands.report_command import report_command
from frostline.cli.commands.reproduce_command import reproduce_command
from frostline.cli.commands.retry_command import retry_command
from frostline.cli.commands.status_command import status_command
from frostline.cli.commands.train_command import train_command
from frostline.cli.commands.tune_command import tune_command
from frostline.cli.commands.worker_command import worker_command
from frostline.errors import FrostlineError, OptionError, TrainingBugError
from frostline.inputs.credentials import Secrets, holds_password, without_password
from frostline.inputs.foreign_errors import foreign_error, foreign_places
from frostline.inputs.printable import printable
from frostline.inputs.whole_numbers import shown
from frostline.process import INTERRUPTED
from frostline.run.installed_programs import frostline_program
from frostline.store.backends.storage import MEMORY

# Of what may hold a password nothing is shown but what goes without.
_MAY_HOLD_PASSWORDS = {"--storage", "--set"}

# Of a file that frostline writes they are said where it is written.
_OUTPUT_ERRORS = {errno.EPIPE, errno.ENOSPC, errno.EIO}

_LONGEST_WORD, _LONGEST_MESSAGE = 300, 1500

application = typer.Typer(
    name="frostline",
    help="Tune the hyperparameters of deep networks cheaply: train only the last layers, on part of the data, and climb.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(frostline.__version__)
        raise typer.Exit


@application.callback(epilog="Add --debug to any command to see the traceback behind an error.")
def common_options(
    _asked: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Hold the options that stand before a command."""


application.command("layers")(layers_command)
application.command("ladder")(ladder_command)
application.command("tune")(tune_command)
application.command("worker")(worker_command)
application.command("audit")(audit_command)
application.command("status")(status_command)
application.command("best")(best_command)
application.command("train")(train_command)
application.command("retry")(retry_command)
application.command("delete")(delete_command)
application.command("cost")(cost_command)
application.command("fit")(fit_command)
application.command("report")(report_command)
application.command("reproduce")(reproduce_command)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; every error is one line, a traceback comes only with ``--debug``."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    # Optuna announces each study that it makes; what is worth saying of it is printed by the command itself. It is slow to
    # import and sets a level of its own when it is: its loggers further down keep theirs.
    for name in ("optuna.storages", "optuna.study"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Names of files need not be text.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    secrets = Secrets(*words)
    try:
        _refuse_stray_passwords(words)
        code = application(words, prog_name="frostline", standalone_mode=False)
        sys.stdout.flush()
    except Exception as error:
        if debug:
            raise
        if isinstance(error, TrainingBugError):
            sys.stderr.write(f"{secrets.hidden_in(error.traceback)}\n\n")
        _fail(_one_line(secrets.hidden_in(_message(error))), 2 if isinstance(error, typer.TyperException) else 1)
    if code == INTERRUPTED:
        _fail(secrets.hidden_in(_interrupted(words)), code)
    sys.exit(code or 0)


def _interrupted(words: list[str]) -> str:
    """Return what is said of a command that was interrupted."""
    if not {"tune", "worker", "audit"} & set(words[:1]):
        return "stopped."
    if _storage_of(words) == MEMORY:
        return "stopped. The study was kept in memory alone: nothing is saved."
    return f"stopped. Every evaluation that ended is saved; go on with: {frostline_program()} {shlex.join(words)}"


def _storage_of(words: list[str]) -> str | None:
    """Return the storage that a command has, whether its words, a file of options or nobody says so."""
    group = typer.main.get_command(application)
    assert isinstance(group, typer.core.TyperGroup)
    with group.commands[words[0]].make_context(words[0], words[1:], resilient_parsing=True) as context:
        storage: str | None = context.params.get("storage")
        return storage


def _refuse_stray_passwords(words: list[str]) -> None:
    """Raise OptionError if a password stands where it would be shown: as the name of something."""
    for option, word in zip(["", *words], words, strict=False):
        if {option, word.partition("=")[0]} & _MAY_HOLD_PASSWORDS:
            continue
        if holds_password(word):
            raise OptionError(
                f"{without_password(word)!r} looks like a URL with a password: only "
                f"{' and '.join(sorted(_MAY_HOLD_PASSWORDS))} take one, as what else is given is shown."
            )


def _message(error: Exception) -> str:
    """Return what is said of an error that ended a command."""
    if isinstance(error, typer.TyperException):
        return _usage(error)
    if isinstance(error, FrostlineError):
        return f"{error}"
    if isinstance(error, OSError) and error.errno in _OUTPUT_ERRORS and error.filename is None:
        _give_up_output()
        return f"what is printed cannot be written: {error.strerror}."
    if isinstance(error, OSError) and error.filename is not None:
        return f"{shown(error.filename)} cannot be used ({error.strerror}): name another file or folder."
    where = "" if foreign_places(error) else "unexpected "
    return f"{where}{foreign_error(error)} (run with --debug for more)"


def _give_up_output() -> None:
    """Let what is left to print go nowhere: Python would try again when it ends, and complain on its own."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _usage(error: typer.TyperException) -> str:
    """Return what was wrong with the words on the command line, in one line."""
    # Most of typer's errors build their message from the parameter; the help that stands in for a missing command has none.
    message = str(getattr(error, "format_message", error.__str__)())
    message = " ".join(message.split()).removesuffix(".")
    stop = "" if message.endswith("?") else "."
    return f"{message}{stop} See `frostline --help`." if message else ""


def _one_line(message: str) -> str:
    """Return ``message`` as one line that any terminal can show, without the middle of what is very long."""
    line = " ".join(_without_middle(word, _LONGEST_WORD) for word in message.split())
    return printable(_without_middle(line, _LONGEST_MESSAGE))


def _without_middle(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most // 2]}[...]{text[-most // 2 :]}"


def _fail(message: str, code: int) -> None:
    if message:
        from rich.console import Console

        Console(stderr=True).print(
            f"frostline: {message}", soft_wrap=True, markup=False, emoji=False, highlight=False
        )
    sys.exit(code)
