"""A recipe carried out: the search that `frostline tune` makes, and every `frostline worker` with it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import typer

from frostline.cli.options.executor_arguments import ExecutorArguments
from frostline.cli.options.naming import AUDIT, AUTO, ladder_named
from frostline.cli.options.search_size import ladder_table
from frostline.cli.recipe import check_against
from frostline.inputs.credentials import without_password
from frostline.run.execution.options import TrainingOptions, usual_horizon
from frostline.run.installed_programs import frostline_program
from frostline.run.loop import SILENT, Observer, Together
from frostline.store.backends.storage import DEFAULT_STORAGE

if TYPE_CHECKING:
    from rich.console import Console

    from frostline.audit.audited_search import AuditedSearch
    from frostline.cli.planned_search import Place, PlannedSearch
    from frostline.cli.recipe import Recipe
    from frostline.protocols import Task
    from frostline.run.view.search_view import SearchView
    from frostline.store.terms import Terms


_HERE = ExecutorArguments()


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """Where a recipe is carried out, and how trainings run there."""

    study: str | None
    """The study's name; None: the task's."""
    storage: str
    options: TrainingOptions
    executor: ExecutorArguments = _HERE
    set_options: list[str] | None = None
    """The task's options as they were typed, passwords and all."""
    observer: Observer = SILENT
    """Is told how the search goes, beside what shows it."""
    joins: bool = False
    """Whether the study has to be there: a worker's."""
    begins_only: bool = False
    """Whether the study is written down, and nothing trained."""


def search_by(recipe: Recipe, where: Circumstances) -> None:
    """Make the search that ``recipe`` says, or go on with it, and show how it goes and what came of it."""
    from rich.console import Console

    from frostline.cli.display import command_view, echo

    console = Console()
    with command_view(console, f"loading {recipe.task.name}") as view:
        loaded = _load(recipe, where)
        from frostline.cli import planned_search, shown_search
        from frostline.run.task_search import begin_study

        place = _place_of(recipe, where, loaded)
        planned, audited = _planned(recipe, view, console, loaded, place)
        if audited is not None:
            as_audited = replace(place.options, horizon=audited.horizon, statistics=audited.statistics)
            place = replace(place, options=as_audited)
        planned = planned_search.aligned(loaded, planned, recipe.search.align, place)
        sampling = recipe.sampling.sampling(loaded)
        echo(ladder_table(planned.ladder, planned.plan, loaded.sample_unit))
        echo(f"study {place.name!r} in {without_password(where.storage)}\n")
        if where.begins_only:
            begin_study(loaded, planned.plan, **shown_search.study_arguments(planned, place, sampling))
        else:
            result = shown_search.run_search(view, loaded, planned, place, sampling)
    if where.begins_only:
        typer.echo(f"nothing was trained; on every machine: {_worker_words(place)}")
        return
    shown_search.show_search(console, planned.plan, result, audited)
    if recipe.search.compare and result.own is None and not where.joins:
        with command_view(console, "training the task's own configuration in full"):
            lines = shown_search.comparison(loaded, result, place)
        typer.echo("\n".join(lines))


def _worker_words(place: Place) -> str:
    """Return the command that works on a study, without a password."""
    storage = [] if place.storage == DEFAULT_STORAGE else ["--storage", without_password(place.storage)]
    return f"{frostline_program()} {shlex.join(['worker', place.name, *storage])}"


def _load(recipe: Recipe, where: Circumstances) -> Task:
    from frostline.tasks.loading import task_named

    options = [*recipe.task.options] if where.set_options is None else where.set_options
    return recipe.sampling.in_space(task_named(recipe.task.name, options), recipe.space)


def _place_of(recipe: Recipe, where: Circumstances, task: Task) -> Place:
    from frostline.cli import planned_search
    from frostline.store.begun import begun_horizon, begun_statistics, terms_in

    name, horizon = where.study or task.name, recipe.search.horizon
    begun = terms_in(where.storage, name)
    if horizon is None:
        size = recipe.search.size(recipe.ladder.search)
        horizon = begun_horizon(begun, usual_horizon(is_budgeted=size.is_budgeted))
    return planned_search.Place(
        name=name,
        storage=where.storage,
        seed=recipe.seed,
        reference=recipe.task,
        options=replace(where.options, horizon=horizon, statistics=begun_statistics(begun)),
        executor=where.executor.factory(where.options.workers),
        tracker=Together(where.executor.tracker(name, where.options.local_runs), where.observer),
        recipe=None if where.joins else recipe.record(),
        joins=where.joins,
        begun=begun,
        against=_against(recipe, begun),
    )


def _against(recipe: Recipe, begun: Terms | None) -> str | None:
    """Return what counts beside the score, and say so if that is what the study was begun with."""
    from frostline.cli.display import echo
    from frostline.store.begun import begun_against

    against = begun_against(begun, recipe.search.against)
    if against is not None and recipe.search.against is None:
        check_against(against, recipe)
        echo(f"as the study was begun: against {against}")
    return against


def _planned(
    recipe: Recipe, view: SearchView, console: Console, task: Task, place: Place
) -> tuple[PlannedSearch, AuditedSearch | None]:
    """Return what is searched, and the audit that recommends it, if one does."""
    from frostline.cli import planned_search
    from frostline.store.begun import begun_ladder
    from frostline.training.supervised.task_layers import layers_of

    search, ladder = recipe.search, recipe.ladder
    size = search.size(ladder.search)
    initial = recipe.sampling.initial(task)
    requested = planned_search.RequestedSearch(size=size, horizon=search.horizon)
    name = size.usual_ladder if ladder.ladder is None else ladder.ladder
    if name == AUTO or name.startswith(AUDIT):
        audited = planned_search.audited_search(view, console, task, name, place, requested, initial, search.align)
        return requested.on_audit(audited, skips=name == AUTO), audited
    climbed = ladder_named(
        name, ladder.rungs, num_layers=layers_of(task).num_layers, full_samples=task.full_samples
    )
    if (ladder.ladder, ladder.rungs) == (None, None):
        climbed = begun_ladder(place.begun, climbed)
    return requested.on(
        climbed, initial=initial, most=recipe.sampling.sampling(task).num_different(task.space)
    ), None
