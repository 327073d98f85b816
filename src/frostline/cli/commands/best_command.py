"""The command `frostline best`: a study's best configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from frostline.atomic import check_writable
from frostline.cli.options.arguments import StorageOption, StudyArgument
from frostline.errors import OptionError
from frostline.run.execution.options import DEFAULT_RUNS
from frostline.store.backends.storage import DEFAULT_STORAGE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.records import Evaluation
    from frostline.run.outcome.front import FrontMember
    from frostline.search.history import History


def best_command(
    study: StudyArgument,
    storage: StorageOption = DEFAULT_STORAGE,
    weights: Annotated[
        Path | None, typer.Option("--weights", help="Copy the weights of its model to this file, as safetensors.")
    ] = None,
    runs: Annotated[
        str, typer.Option("--runs", help="The folder, or URL, where the search left them.")
    ] = f"{DEFAULT_RUNS}",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the configuration as JSON, and nothing else.")
    ] = False,
    member: Annotated[
        int | None,
        typer.Option(
            "--member", metavar="NUMBER", help="That configuration of the front in place of the best score's."
        ),
    ] = None,
) -> None:
    """Show a study's best configuration, and the command that trains it in full."""
    from rich.console import Console

    from frostline.cli.display import configuration_table, show_front
    from frostline.folders.places import checked_folder
    from frostline.folders.study_place import StudyPlace
    from frostline.run.outcome.ending import no_score_words
    from frostline.run.outcome.front import best_front
    from frostline.run.outcome.sentences import how_to_train, score_name
    from frostline.run.outcome.summary import best_evaluation
    from frostline.store.reading import read_study
    from frostline.training.files.kept_models import KeptModels

    folder = checked_folder(runs)
    if weights is not None:
        check_writable(weights)
    stored = read_study(storage, study)
    terms, history = stored.terms, stored.history
    best = best_evaluation(history)
    if best is None:
        raise OptionError(f"the study {study!r} {no_score_words(history, terms)}")
    front = best_front(history, terms)
    if member is not None:
        best = _member_of(front, member, study=study, history=history, rung=best.rung)
    configuration = history.configuration_of(best)
    last = len(terms.rungs) - 1
    drawn = history.configurations[best.number]
    place = StudyPlace(runs=folder, name=study, identity=stored.identity)
    models = KeptModels.in_folder(place.folder, data=terms.data)
    if weights is not None:
        if best.rung < last:
            raise OptionError(
                f"no configuration of {study!r} has been trained in full yet: let the search run on."
            )
        models.copy(drawn, weights)
    if as_json:
        typer.echo(json.dumps(dict(configuration.hyperparameters)))
        return
    rung = "at full fidelity" if best.rung == last else f"at rung {best.rung}, the last being {last}"
    typer.echo(f"configuration {best.number}, {score_name(terms.metric)} {best.score:.5g} {rung}")
    Console().print(configuration_table(configuration))
    if member is None:
        show_front(Console(), front, terms)
    if weights is not None:
        typer.echo(f"weights in {weights}")
        return
    if best.rung == last and models.has(drawn):
        typer.echo(f"its weights: {models.place_of(drawn)} (--weights FILE copies them)")
    typer.echo(how_to_train(terms, configuration))


def _member_of(
    front: Sequence[FrontMember], number: int, *, study: str, history: History, rung: int
) -> Evaluation:
    """Return the evaluation of a member of the front. Raises: OptionError if the configuration is none."""
    numbers = sorted(member.configuration.number for member in front)
    if number not in numbers:
        allowed = (
            f"which has {', '.join(map(str, numbers))}"
            if numbers
            else "and the study weighs nothing against its score"
        )
        raise OptionError(f"--member {number} is not of the front of {study!r}, {allowed}.")
    found = history.evaluation(number, rung)
    assert found is not None
    return found
