"""A search of `frostline tune`: run, shown on its way, and what is said of it afterwards."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, TypedDict

import typer

from frostline.cli.display import configuration_table, show_front
from frostline.inputs.credentials import without_password
from frostline.protocols import metric_of
from frostline.records import loss_sign
from frostline.run.execution.options import TrainingOptions
from frostline.run.installed_programs import frostline_program, program
from frostline.run.loop import Together
from frostline.run.outcome.sentences import best_words, how_to_train, score_words
from frostline.run.plan import SearchPlan
from frostline.run.single_training import train_task
from frostline.run.task_search import TaskSearch
from frostline.run.tuning import search_task
from frostline.run.view.drawing_board import rung_table
from frostline.run.view.event_lines import outcome
from frostline.search.algorithms.realigned import RealignedSearch, reading_sentences
from frostline.search.budgets.budget import FEWEST_FULL_TRAININGS
from frostline.search.budgets.budgeted import BudgetedHalving
from frostline.store.backends.storage import DEFAULT_STORAGE, MEMORY
from frostline.store.reading import READINGS_NOTE, write_note
from frostline.wording import duration

if TYPE_CHECKING:
    from rich.console import Console

    from frostline.audit.audited_search import AuditedSearch
    from frostline.cli.planned_search import Place, PlannedSearch
    from frostline.protocols import Task
    from frostline.records import Direction
    from frostline.run.outcome.result import TuneResult
    from frostline.run.view.search_view import SearchView
    from frostline.search.interface import Climb
    from frostline.search.proposals.sampling import Sampling


class StudyArguments(TypedDict):
    """What of a planned search says which study it has."""

    study: str
    plan: SearchPlan
    training: TaskSearch
    storage: str


def run_search(view: SearchView, task: Task, climb: PlannedSearch, place: Place, sampling: Sampling) -> TuneResult:
    """Run a planned search, or go on with it, and show how far it is."""
    view.prepare(
        f"preparing the first trainings of {task.name}", sample_unit=task.sample_unit, metric=metric_of(task)
    )
    watch = climb.watch()
    if watch is not None:
        view.comment_by(watch.news)
    return search_task(
        task,
        climb.plan,
        **study_arguments(climb, place, sampling),
        executor=place.executor,
        observer=Together(view, place.tracker),
    )


def study_arguments(climb: PlannedSearch, place: Place, sampling: Sampling) -> StudyArguments:
    """Return what says which study a planned search has, beside its task and the search itself."""
    return StudyArguments(
        study=place.name,
        plan=SearchPlan(sampling=sampling, initial=climb.initial, seed=place.seed, against=place.against),
        training=TaskSearch(
            options=place.options,
            alignment=climb.alignment,
            known=climb.known,
            reference=place.reference,
            recipe=place.recipe,
            joins=place.joins,
        ),
        storage=place.storage,
    )


def _show_readings(search: Climb, result: TuneResult) -> None:
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


def _show_budget(search: Climb, result: TuneResult) -> None:
    """Say how much of its budget a search has spent, and why nothing beside one's own was trained in full."""
    if not isinstance(search, BudgetedHalving):
        return
    spent, allowed = search.spent(result.history)
    size = search.full_trainings(result.history)
    here = duration(allowed) if search.budget.seconds is None else f"{size:.2g} full trainings"
    why = ""
    if search.searches and size < FEWEST_FULL_TRAININGS:
        fewest = duration(allowed / size * FEWEST_FULL_TRAININGS)
        why = f" Nothing was searched: that begins at {FEWEST_FULL_TRAININGS:g} full trainings, {fewest}."
    elif search.own_stay_alone(result.history):
        why = " None but your own was trained in full: candidates cost more than is left."
    later = "With a larger one the same command goes on."
    if search.most is not None and search.most <= len(result.history.configurations):
        later = "All configurations of the space have been tried"
        in_full = result.history.rung(len(search.ladder.rungs) - 1).num_ended
        later += (
            "." if in_full == search.most else f", {in_full} of {search.most} in full: a new study may train more."
        )
    typer.echo(f"The budget, {search.budget}, is {here} here: {spent / allowed:.0%} of it is spent.{why} {later}")


def _show_audits_best(audited: AuditedSearch, result: TuneResult) -> None:
    """Say so if the audit itself, which trained all of its configurations in full, has a better one."""
    best, configuration = audited.best, audited.best_configuration
    if best is None or best.score is None or configuration is None:
        return
    if _is_better(best.score, result.score, result.terms.direction):
        typer.echo(
            f"\nThe audit has a better one, which this ladder lost: "
            f"{score_words(best.score, result.terms.direction, result.terms.metric)}, at full fidelity."
        )
        typer.echo(how_to_train(result.terms, configuration))


def comparison(task: Task, result: TuneResult, place: Place) -> list[str]:
    """Train the task's own configuration in full, and return which of the two is better."""
    options = TrainingOptions(
        device=place.options.device, precision=place.options.precision, threads=place.options.threads
    )
    own, _ = train_task(task, task.defaults, seed=place.seed, options=options)
    metric = result.terms.metric
    lines = [
        f"\nthe best configuration found, trained in full:  {outcome(result.best, metric)}",
        f"the task's own configuration, trained in full: {outcome(own, metric)}",
    ]
    if own.score is not None and _is_better(own.score, result.score, task.direction):
        lines.append(
            "The task's own is better: the lower rungs of this ladder mislead here. `frostline audit` measures which do not."
        )
    return lines


def _is_better(score: float, other: float, direction: Direction) -> bool:
    return loss_sign(direction) * score < loss_sign(direction) * other


def show_search(console: Console, search: Climb, result: TuneResult, audited: AuditedSearch | None) -> None:
    """Say what a search came to, what it cost, how it went, and how to go on."""
    _show_result(console, result)
    _show_budget(search, result)
    _show_readings(search, result)
    if audited is not None:
        _show_audits_best(audited, result)


def _show_result(console: Console, result: TuneResult) -> None:
    """Say what a search came to, what it cost, and how to go on."""
    terms = result.terms
    typer.echo(f"\n{best_words(result.best, terms.direction, metric=terms.metric, num_rungs=len(terms.rungs))}")
    console.print(configuration_table(result.configuration))
    show_front(console, result.front, terms)
    typer.echo("")
    console.print(rung_table(result.summary, terms.sample_unit, terms.metric))
    typer.echo("")
    for line in result.remarks:
        typer.echo(line)
    place = without_password(result.storage)
    if result.storage != MEMORY:
        dashboard = program("optuna-dashboard")
        look = "" if dashboard is None else f"; look at it with: {shlex.quote(dashboard)} {shlex.quote(place)}"
        typer.echo(f"\nthe study: {result.study_name!r} in {place}{look}")
        report = [*shlex.split(frostline_program()), "report", result.study_name]
        report += [] if result.storage == DEFAULT_STORAGE else ["--storage", place]
        typer.echo(f"a page about it: {shlex.join(report)}")
    typer.echo(how_to_train(result.terms, result.configuration))
