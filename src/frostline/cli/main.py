"""The command line: its commands, and errors as lines. Commands load what they need, such as torch, when they are called."""

from __future__ import annotations

import logging
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from frostline.cli.audit_command import audit_command
from frostline.cli.best_command import best_command
from frostline.cli.cost_command import cost_command
from frostline.cli.fit_command import fit_command
from frostline.cli.ladder_command import ladder_command
from frostline.cli.layers_command import layers_command
from frostline.cli.report_command import report_command
from frostline.cli.reproduce_command import reproduce_command
from frostline.cli.status_command import status_command
from frostline.cli.train_command import train_command
from frostline.cli.tune_command import tune_command
from frostline.errors import FrostlineError

# What typer returns for Ctrl-C, as shells do.
_INTERRUPTED = 130

application = typer.Typer(
    name="frostline",
    help="Tune the hyperparameters of deep networks cheaply: train only the last layers, on part of the data, and climb.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(version("frostline"))
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
application.command("audit")(audit_command)
application.command("status")(status_command)
application.command("best")(best_command)
application.command("train")(train_command)
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
    try:
        code = application(words, prog_name="frostline", standalone_mode=False)
    except typer.TyperException as error:
        if debug:
            raise
        _fail(_usage(error), 2)
    except FrostlineError as error:
        if debug:
            raise
        _fail(f"{error}", 1)
    except Exception as error:
        if debug:
            raise
        _fail(f"unexpected {type(error).__name__}: {' '.join(str(error).split())} (run with --debug for more)", 1)
    if code == _INTERRUPTED:
        _fail("stopped. Every evaluation that ended is saved; the same command goes on from there.", code)
    sys.exit(code or 0)


def _usage(error: typer.TyperException) -> str:
    """Return what was wrong with the words on the command line, in one line."""
    # Most of typer's errors build their message from the parameter; the help that stands in for a missing command has none.
    message = str(getattr(error, "format_message", error.__str__)())
    message = " ".join(message.split()).removesuffix(".")
    stop = "" if message.endswith("?") else "."
    return f"{message}{stop} See `frostline --help`." if message else ""


def _fail(message: str, code: int) -> None:
    if message:
        from rich.console import Console

        Console(stderr=True).print(f"frostline: {message}", soft_wrap=True, markup=False, highlight=False)
    sys.exit(code)
