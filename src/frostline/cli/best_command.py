"""The command `frostline best`: a study's best configuration."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from frostline.cli.arguments import StorageOption, StudyArgument
from frostline.errors import OptionError
from frostline.store.storage import DEFAULT_STORAGE


def best_command(
    study: StudyArgument,
    storage: StorageOption = DEFAULT_STORAGE,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the configuration as JSON, and nothing else.")
    ] = False,
) -> None:
    """Show a study's best configuration, and the command that trains it in full."""
    from rich.console import Console

    from frostline.cli.display import configuration_table
    from frostline.run.sentences import how_to_train
    from frostline.run.summary import best_evaluation
    from frostline.store.reading import read_study

    stored = read_study(storage, study)
    terms, history = stored.terms, stored.history
    best = best_evaluation(history)
    if best is None:
        raise OptionError(f"the study {study!r} has no score yet: let `frostline tune` run on.")
    configuration = history.configuration_of(best)
    if as_json:
        typer.echo(json.dumps(dict(configuration.hyperparameters)))
        return
    last = len(terms.rungs) - 1
    rung = "at full fidelity" if best.rung == last else f"at rung {best.rung}, the last being {last}"
    typer.echo(f"configuration {best.number}, score {best.score:.5g} {rung}")
    Console().print(configuration_table(configuration))
    typer.echo(how_to_train(terms, configuration))
