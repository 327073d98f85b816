"""The command line: parses, calls, prints."""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import optuna
import typer
from rich.console import Console

from frostline.cli import display
from frostline.cli.arguments import (
    ConfigurationsOption,
    DeviceOption,
    FactorOption,
    LadderOption,
    MemoryOption,
    PrecisionOption,
    RungsOption,
    SearchOption,
    SeedOption,
    SetOption,
    StorageOption,
    StudyArgument,
    TaskArgument,
    ladder_named,
    ladder_table,
    parse_configuration,
    search_named,
)
from frostline.cli.audit_command import audit_command
from frostline.cli.cost_command import cost_command, fit_command
from frostline.cli.report_command import report_command
from frostline.cli.reproduce_command import reproduce_command
from frostline.cli.tune_command import tune_command
from frostline.errors import FrostlineError, OptionError, TaskError
from frostline.records import Fidelity
from frostline.run.options import TrainingOptions
from frostline.run.sentences import cost_lines, train_command
from frostline.run.summary import best_evaluation, summarise
from frostline.run.tuning import train_task
from frostline.search.halving import CONFIGURATIONS
from frostline.store.reading import read_study
from frostline.store.storage import DEFAULT_STORAGE, without_password
from frostline.tasks.loading import task_named
from frostline.training.task_layers import layers_of
from frostline.wording import duration

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
        _print(version("frostline"))
        raise typer.Exit


@application.callback(epilog="Add --debug to any command to see the traceback behind an error.")
def common_options(
    _asked: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Hold the options that stand before a command."""


@application.command("layers")
def show_layers(task: TaskArgument, options: SetOption = None) -> None:
    """Show the layers of a task's model, in the order of execution."""
    stack = layers_of(task_named(task, options))
    _print(f"{stack}")


@application.command("ladder")
def show_ladder(
    task: TaskArgument,
    options: SetOption = None,
    ladder: LadderOption = "diagonal",
    rungs: RungsOption = 3,
    configurations: ConfigurationsOption = CONFIGURATIONS,
    search: SearchOption = "halving",
    reduction_factor: FactorOption = 3,
) -> None:
    """Show the rungs that a search would climb, and what each costs."""
    loaded = task_named(task, options)
    climbed = ladder_named(ladder, rungs, loaded)
    plan = search_named(search, reduction_factor)(ladder=climbed, configurations=configurations)
    _print(ladder_table(climbed, plan, loaded.sample_unit))


application.command("tune")(tune_command)
application.command("audit")(audit_command)


@application.command("status")
def show_status(study: StudyArgument, storage: StorageOption = DEFAULT_STORAGE) -> None:
    """Show where a study stands."""
    stored = read_study(storage, study)
    terms = stored.terms
    summary = summarise(stored.history, terms.rungs, terms.expected)
    console = Console()
    _print(
        f"study {study!r} in {without_password(storage)}: task {terms.task}, {summary.num_configurations} configurations"
    )
    console.print(display.rung_table(summary, terms.sample_unit))
    for line in cost_lines(summary):
        _print(line)


@application.command("best")
def show_best(
    study: StudyArgument,
    storage: StorageOption = DEFAULT_STORAGE,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the configuration as JSON, and nothing else.")
    ] = False,
) -> None:
    """Show a study's best configuration, and the command that trains it in full."""
    stored = read_study(storage, study)
    terms, history = stored.terms, stored.history
    best = best_evaluation(history)
    if best is None:
        raise OptionError(f"the study {study!r} has no score yet: let `frostline tune` run on.")
    configuration = history.configurations[best.number]
    if as_json:
        _print(json.dumps(dict(configuration.hyperparameters)))
        return
    rung = (
        "at full fidelity"
        if best.rung == len(terms.rungs) - 1
        else f"at rung {best.rung}, the last being {len(terms.rungs) - 1}"
    )
    _print(f"configuration {best.number}, score {best.score:.5g} {rung}")
    Console().print(display.configuration_table(configuration))
    _print(f"train it in full: {train_command(terms, configuration)}")


@application.command("train")
def train_configuration(
    task: TaskArgument,
    options: SetOption = None,
    configuration: Annotated[
        str | None, typer.Option("--configuration", help="JSON; what it leaves out is the task's own.")
    ] = None,
    trainable_layers: Annotated[
        int | None, typer.Option("--layers", help="Train only so many of the last layers.")
    ] = None,
    samples: Annotated[int | None, typer.Option("--samples", help="Train on so many samples.")] = None,
    save: Annotated[Path | None, typer.Option("--save", help="Write the trained weights to this file.")] = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "float32",
    memory: MemoryOption = "auto",
) -> None:
    """Train one configuration, in full if nothing else is said."""
    loaded = task_named(task, options)
    given = parse_configuration(configuration)
    if save is not None and (save.is_dir() or not save.parent.is_dir()):
        raise OptionError(f"--save {save}: name a file in a folder that exists.")
    stack_size = layers_of(loaded).num_layers
    fidelity = Fidelity(
        trainable_layers=stack_size if trainable_layers is None else trainable_layers,
        samples=loaded.full_samples if samples is None else samples,
    )
    evaluation, model = train_task(
        loaded,
        {**loaded.defaults, **given},
        fidelity=fidelity,
        seed=seed,
        options=TrainingOptions(device=device, precision=precision, memory=memory),
    )
    for point in evaluation.curve:
        _print(f"{point.samples:>14,} {loaded.sample_unit}  score {point.score:.5g}")
    if evaluation.score is None:
        raise TaskError(f"the training {evaluation.status}: {evaluation.reason}")
    _print(f"score {evaluation.score:.5g} after {duration(evaluation.cost.seconds)}")
    if save is not None:
        import torch

        torch.save(model.state_dict(), save)
        _print(f"weights in {save}")


application.command("cost")(cost_command)
application.command("fit")(fit_command)
application.command("report")(report_command)
application.command("reproduce")(reproduce_command)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; every error is one line, a traceback comes only with ``--debug``."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    # Optuna announces each study it opens; what is worth saying of it is printed by the command itself.
    optuna.logging.set_verbosity(optuna.logging.WARNING)
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
        Console(stderr=True).print(f"frostline: {message}", soft_wrap=True, markup=False, highlight=False)
    sys.exit(code)


def _print(text: str) -> None:
    typer.echo(text)
