"""What `frostline tune` is going to search: on the ladder that was named, or on that of an audit, aligned if asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from frostline.audit.audited_search import (
    AuditedSearch,
    aligning_audit,
    alignment_of_audit,
    is_other_audit,
    search_of_audit,
    small_audit,
)
from frostline.audit.console_tables import ladder_comparison_table
from frostline.audit.rung_watch import AgreementWatch
from frostline.cli.display import echo
from frostline.cli.options.naming import AUDIT, AUTO, parse_alignment
from frostline.cli.options.search_size import SearchSize
from frostline.cli.shown_audit import run_audit
from frostline.errors import OptionError
from frostline.run.execution.local import local_executor
from frostline.run.execution.options import OFF, TrainingOptions
from frostline.run.loop import SILENT, Observer
from frostline.run.plan import SearchPlan
from frostline.run.task_search import TaskSearch
from frostline.search.algorithms.halving import AsynchronousHalving, SuccessiveHalving
from frostline.search.algorithms.hyperband import Hyperband
from frostline.search.algorithms.realigned import RealignedSearch
from frostline.search.algorithms.search_names import HALVING, ClimbFactory, search_named
from frostline.search.algorithms.sweep import FullFidelity, Sweep
from frostline.search.algorithms.watched import WatchedHalving
from frostline.search.alignment import IDENTITY, Alignment
from frostline.search.budgets.budgeted import BudgetedHalving
from frostline.store.backends.storage import MEMORY
from frostline.store.begun import terms_in
from frostline.store.terms import TaskReference, Terms

if TYPE_CHECKING:
    from rich.console import Console

    from frostline.protocols import Task
    from frostline.records import Evaluation, Job, Value
    from frostline.run.execution.workload import ExecutorFactory
    from frostline.run.view.search_view import SearchView
    from frostline.search.interface import Climb
    from frostline.search.ladder import Ladder


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a search lies and how its trainings run."""

    name: str
    storage: str
    seed: int
    reference: TaskReference
    options: TrainingOptions
    executor: ExecutorFactory = local_executor
    tracker: Observer = SILENT
    recipe: Mapping[str, Any] | None = None
    """What a study keeps for its workers."""
    joins: bool = False
    """Whether the study has to be there already."""
    begun: Terms | None = None
    """What the study is about, if it is there."""
    against: str | None = None
    """What of the trained model counts beside the score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedSearch:
    """What is searched, on which ladder, and what is known before."""

    ladder: Ladder
    plan: Climb
    initial: Sequence[Mapping[str, Value]]
    known: Callable[[Job], Evaluation | None] | None = None
    least_agreement: tuple[float, ...] | None = None
    alignment: Alignment = IDENTITY

    def watch(self) -> AgreementWatch | None:
        """Return what watches whether rungs agree, None for searches that eliminate nobody by them."""
        if isinstance(self.plan, Sweep | FullFidelity):
            return None
        plan = self.plan
        expected = plan.decided if isinstance(plan, BudgetedHalving) else lambda _: plan.evaluations_per_rung()
        return AgreementWatch(expected=expected, least=self.least_agreement)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestedSearch:
    """What the user said of the search; None: nothing."""

    size: SearchSize
    horizon: str | None

    def on(self, ladder: Ladder, *, initial: Sequence[Mapping[str, Value]], most: int | None) -> PlannedSearch:
        """Return the search on a ladder that is taken as it is, over at most ``most`` configurations."""
        plan = self.size.climb(ladder, num_initial=len(initial), most=most)
        return PlannedSearch(ladder=ladder, plan=plan, initial=initial)

    def on_audit(self, audited: AuditedSearch, *, skips: bool) -> PlannedSearch:
        """Return the search on the ladder of an audit; ``skips``: it may skip a rung that turns out not to rank."""
        if self.horizon not in (None, audited.horizon):
            raise OptionError(
                f"--horizon is {self.horizon}, but the audit measured its ladder under {audited.horizon}: leave it out, or "
                f"audit with --horizon {self.horizon}."
            )
        plan = self._factory(audited, skips=skips)(ladder=audited.ladder, configurations=audited.configurations)
        # What is assumed of survivors holds for the halving that the audit was replayed with.
        as_assumed = isinstance(plan, SuccessiveHalving | WatchedHalving) and self.size.reduction_factor is None
        return PlannedSearch(
            ladder=audited.ladder,
            plan=plan,
            initial=audited.initial,
            known=audited.known,
            least_agreement=audited.least_agreement if as_assumed else None,
            alignment=audited.alignment,
        )

    def _factory(self, audited: AuditedSearch, *, skips: bool) -> ClimbFactory:
        factor = self.size.reduction_factor
        if factor is None and self.size.search == HALVING:
            factor = audited.recommendation.chosen.reduction_factor
        if self.size.search == HALVING and skips and self.size.reduction_factor is None:
            return audited.watched
        # Hyperband and asynchronous halving have their own idea of how many to promote.
        return search_named(self.size.search, factor)


def audited_search(
    view: SearchView,
    console: Console,
    task: Task,
    ladder: str,
    place: Place,
    requested: RequestedSearch,
    own: Sequence[Mapping[str, Value]],
    align: str,
) -> AuditedSearch:
    """Return the search that an audit recommends, after a small one if there is none yet."""
    study = ladder.removeprefix(AUDIT)
    if ladder == AUTO:
        if place.storage == MEMORY:
            raise OptionError(f"--ladder {AUTO} reads its audit from the storage: give another one than {MEMORY}.")
        study = f"{place.name} audit"
        # Before the audit, which takes long; that it aligns by itself it can only do once it is made.
        if align.startswith(AUDIT) and align != f"{AUDIT}{study}":
            aligning_audit(task, storage=place.storage, study=align.removeprefix(AUDIT))
        plan = small_audit(task)
        if requested.horizon is not None:
            plan = replace(plan, horizon=requested.horizon)
        if is_other_audit(terms_in(place.storage, study), plan):
            echo(f"there is an audit already, in study {study!r}: its ladder is taken.")
        else:
            echo(f"a small audit first, in study {study!r}:")
            run_audit(
                view,
                task,
                plan,
                study=study,
                storage=place.storage,
                training=TaskSearch(options=place.options, reference=place.reference),
                search=SearchPlan(initial=own, seed=place.seed),
                executor=place.executor,
            )
    audited = search_of_audit(
        task,
        storage=place.storage,
        study=study,
        options=place.options,
        seed=place.seed,
        configurations=requested.size.configurations,
    )
    chosen = audited.recommendation.chosen
    echo(
        f"ladders for {chosen.configurations} configurations, by the audit {study!r}; cost in full trainings, chance of "
        f"ending within {audited.recommendation.tolerance:.3g} of the best:"
    )
    console.print(ladder_comparison_table(audited.recommendation))
    if audited.num_known:
        echo(f"{audited.num_known} of the configurations are the audit's: their evaluations are not made again.")
    echo("")
    return audited


def aligned(task: Task, climb: PlannedSearch, align: str, place: Place) -> PlannedSearch:
    """Return the search under the alignment that was asked for, and say what it changes."""
    if not climb.alignment.is_identity and align != OFF:
        raise OptionError(
            f"--align is {align}, but the audit measured its ladder under {climb.alignment}: leave it out, or give the "
            f"ladder of another audit."
        )
    if align == AUTO:
        assert isinstance(climb.plan, SuccessiveHalving | Hyperband | AsynchronousHalving), f"{climb.plan}"
        waits = not isinstance(climb.plan, AsynchronousHalving)
        plan = RealignedSearch(search=climb.plan, space=task.space, waits=waits)
        return replace(climb, plan=plan, least_agreement=None)
    alignment = climb.alignment
    if align.startswith(AUDIT):
        study = align.removeprefix(AUDIT)
        alignment = alignment_of_audit(task, climb.ladder, storage=place.storage, study=study)
        if alignment.is_identity:
            echo(f"the audit {study!r} gives no sure shift: all rungs train the configurations as they are.\n")
    elif align != OFF:
        alignment = parse_alignment(align)
    alignment.check(task.space, num_layers=climb.ladder.num_layers)
    if alignment.draws:
        raise OptionError(
            f"--align {alignment} draws factors for each configuration, which is for `frostline audit`: give one for "
            f"all, or {AUDIT}STUDY."
        )
    _say_alignment(alignment, climb.ladder, by_hand=align != OFF and not align.startswith(AUDIT))
    # What an audit leads to expect of its rungs is not what they do under another alignment.
    as_measured = alignment == climb.alignment
    return replace(climb, alignment=alignment, least_agreement=climb.least_agreement if as_measured else None)


def _say_alignment(alignment: Alignment, ladder: Ladder, *, by_hand: bool) -> None:
    """Say what the rungs train in place of configurations. Raises: OptionError if factors by hand are for no rung."""
    trained = {rung.trainable_layers for rung in ladder.rungs}
    for layers, factors in alignment.factors.items():
        if layers in trained:
            changed = ", ".join(f"{name} × {factor:.3g}" for name, factor in factors.items())
            echo(f"aligned: with {layers} of {ladder.num_layers} layers trained, {changed}")
        # Of an audit's cells its ladder has some.
        elif by_hand:
            lower = sorted(trained - {ladder.num_layers})
            there = f"train {', '.join(map(str, lower))} or all" if lower else "all train all"
            raise OptionError(
                f"--align {alignment}: no rung trains {layers} of the {ladder.num_layers} layers; the rungs of this ladder "
                f"{there}: give factors for those, or another --ladder."
            )
