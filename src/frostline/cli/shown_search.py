"""A search of `frostline tune`: run, shown on its way, and what is said of it afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from frostline.cli import display
from frostline.inputs.credentials import without_password
from frostline.records import loss_sign
from frostline.run.options import TrainingOptions
from frostline.run.plan import SearchPlan
from frostline.run.sentences import how_to_train
from frostline.run.tuning import TaskSearch, expected_of, search_task, train_task
from frostline.search.budgeted import BudgetedHalving
from frostline.search.realigned import RealignedSearch, reading_sentences
from frostline.store.reading import READINGS_NOTE, write_note
from frostline.store.storage import MEMORY
from frostline.wording import duration

if TYPE_CHECKING:
    from rich.console import Console

    from frostline.audit.audited_search import AuditedSearch
    from frostline.audit.rung_watch import AgreementWatch
    from frostline.cli.planned_search import Place, PlannedSearch
    from frostline.protocols import Task
    from frostline.records import Direction, Evaluation
    from frostline.run.result import TuneResult
    from frostline.search.history import History
    from frostline.search.interface import Climb
    from frostline.search.sampling import Sampling


def run_search(console: Console, task: Task, climb: PlannedSearch, place: Place, sampling: Sampling) -> TuneResult:
    """Run a planned search, or go on with it, and show how far it is."""
    shown = _WatchedDisplay(
        console,
        rungs=climb.ladder.rungs,
        expected=expected_of(climb.plan),
        sample_unit=task.sample_unit,
    )
    shown.watch = climb.watch()
    with shown:
        return search_task(
            task,
            climb.plan,
            study=place.name,
            plan=SearchPlan(sampling=sampling, initial=climb.initial, seed=place.seed),
            training=TaskSearch(
                options=place.options,
                alignment=climb.alignment,
                known=climb.known,
                reference=place.reference,
            ),
            storage=place.storage,
            observer=shown,
        )


class _WatchedDisplay(display.SearchDisplay):
    """Says beside the search itself where its rungs disagree."""

    watch: AgreementWatch | None = None

    def ended(self, evaluation: Evaluation, history: History) -> None:
        super().ended(evaluation, history)
        for sentence in [] if self.watch is None else self.watch.news(history):
            self.say(sentence)


def show_readings(search: Climb, result: TuneResult) -> None:
    """Say how a realigned search read its rungs of few layers, and leave it in the study for its report."""
    if not isinstance(search, RealignedSearch):
        return
    readings = search.readings(result.history)
    sentences = reading_sentences(readings, search.ladder)
    if not sentences:
        sentences = ["no rung of few layers promotes enough configurations to learn how it is to be read."]
    typer.echo("")
    for sentence in sentences:
        typer.echo(sentence)
    if result.storage != MEMORY:
        write_note(result.storage, result.study_name, READINGS_NOTE, sentences)


def show_budget(search: Climb, result: TuneResult) -> None:
    """Say how much of its budget a search has spent."""
    if isinstance(search, BudgetedHalving):
        spent, allowed = search.spent(result.history)
        typer.echo(
            f"The budget, {search.budget}, is {duration(allowed)} here: {spent / allowed:.0%} of it is spent. With a larger "
            f"one the same command goes on."
        )


def show_audits_best(audited: AuditedSearch, result: TuneResult) -> None:
    """Say so if the audit itself, which trained all of its configurations in full, has a better one."""
    best, configuration = audited.best, audited.best_configuration
    if best is None or best.score is None or configuration is None:
        return
    if _is_better(best.score, result.score, result.terms.direction):
        typer.echo(
            f"\nThe audit has a better one, which this ladder lost: score {best.score:.5g} at full fidelity."
        )
        typer.echo(how_to_train(result.terms, configuration))


def compare(task: Task, result: TuneResult, place: Place) -> None:
    """Train the task's own configuration in full, unless the search has, and say which of the two is better."""
    if result.own is not None:
        return
    options = TrainingOptions(
        device=place.options.device, precision=place.options.precision, threads=place.options.threads
    )
    own, _ = train_task(task, task.defaults, seed=place.seed, options=options)
    typer.echo(f"\nthe best configuration found, trained in full:  {display.outcome(result.best)}")
    typer.echo(f"the task's own configuration, trained in full: {display.outcome(own)}")
    if own.score is not None and _is_better(own.score, result.score, task.direction):
        typer.echo(
            "The task's own is better: the lower rungs of this ladder mislead here. `frostline audit` measures which do not."
        )


def _is_better(score: float, other: float, direction: Direction) -> bool:
    return loss_sign(direction) * score < loss_sign(direction) * other


def show_result(console: Console, result: TuneResult, sample_unit: str) -> None:
    """Say what a search came to, what it cost, and how to go on."""
    typer.echo(f"\nbest: configuration {result.best.number}, score {result.score:.5g} at full fidelity")
    console.print(display.configuration_table(result.configuration))
    typer.echo("")
    console.print(display.rung_table(result.summary, sample_unit))
    typer.echo("")
    for line in result.remarks:
        typer.echo(line)
    place = without_password(result.storage)
    if result.storage != MEMORY:
        typer.echo(f"\nthe study: {result.study_name!r} in {place}; look at it with `optuna-dashboard {place}`")
    typer.echo(how_to_train(result.terms, result.configuration))
