"""The doors to a search: of a training function, and of a task."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Unpack

from frostline.costs.model_cost import ModelMeter
from frostline.errors import OptionError, SearchFailedError, SearchSpaceError
from frostline.inputs.kinds import check_kind
from frostline.protocols import metric_of
from frostline.run.execution.affordable import within_budget
from frostline.run.execution.executors import AligningExecutor, MeteringExecutor, RememberingExecutor
from frostline.run.execution.local import local_executor
from frostline.run.execution.options import TrainingOptions, alone, usual_horizon
from frostline.run.execution.workload import ExecutorFactory, TaskTraining, Workload, check_factory, check_task
from frostline.run.given_ladder import GivenLadder, checked_ladder, ladder_by
from frostline.run.loop import SILENT, Observer, Proposer, climb
from frostline.run.outcome.ending import summary_of
from frostline.run.outcome.keeping import KeepingTheBest
from frostline.run.outcome.kept_samples import KeptSamples
from frostline.run.outcome.result import TuneResult, why_nothing_was_found
from frostline.run.outcome.summary import best_evaluation
from frostline.run.plan import PlanFields, SearchPlan, check_options
from frostline.run.task_search import TaskSearch, terms_of, terms_of_task
from frostline.run.view.search_view import observing
from frostline.search.algorithms.halving import AsynchronousHalving
from frostline.search.algorithms.realigned import inner_search
from frostline.search.alignment import IDENTITY, Alignment
from frostline.search.budgets.budgeted import BudgetedHalving
from frostline.search.interface import Climb, Search
from frostline.search.ladder import Ladder
from frostline.search.spaces.space import space_of
from frostline.store.backends.storage import DEFAULT_STORAGE, Storage, checked_place, opened
from frostline.store.begun import begun_against, begun_horizon, begun_ladder, begun_statistics, terms_in
from frostline.store.identity import identity_in
from frostline.store.reading import check_study_name
from frostline.store.study import SearchStudy
from frostline.training.black_box import BlackBox
from frostline.training.supervised.sources import source_digest
from frostline.training.supervised.task_layers import layers_of

if TYPE_CHECKING:
    from pathlib import Path

    from optuna.distributions import BaseDistribution

    from frostline.protocols import Executor, Task
    from frostline.records import Evaluation, Value
    from frostline.run.execution.workload import OwnTraining
    from frostline.search.history import History
    from frostline.search.spaces.space import SearchSpace
    from frostline.store.terms import Terms
    from frostline.training.black_box import TrainFunction
    from frostline.training.files.kept_models import KeptModels

logger = logging.getLogger(__name__)


def search_function(
    train: TrainFunction,
    space: SearchSpace | Mapping[str, BaseDistribution],
    ladder: Ladder,
    *,
    study: str,
    plan: SearchPlan = SearchPlan(),
    storage: str = DEFAULT_STORAGE,
    executor: ExecutorFactory = local_executor,
    observer: Observer = SILENT,
) -> TuneResult:
    """Search for the best configuration of a function of configurations and fidelities, and return it.

    ``train(configuration, fidelity)`` returns a score, or yields ``(samples, score)`` as it goes; the rest is as in
    ``search_training``. Raises: OptionError if its models' costs are to count, of which it tells nothing.
    """
    if plan.against is not None:
        raise OptionError(
            f"against is {plan.against!r}, but what a model costs is known of tasks and objectives: leave it out, or make "
            f"one of these of it, for tune_task or tune."
        )
    return search_training(
        BlackBox(train=train, root_seed=plan.seed),
        space_of(space),
        ladder,
        study=study,
        plan=plan,
        storage=storage,
        executor=executor,
        observer=observer,
    )


def search_training(
    training: OwnTraining,
    space: SearchSpace,
    ladder: Ladder,
    *,
    study: str,
    plan: SearchPlan = SearchPlan(),
    storage: str | Storage = DEFAULT_STORAGE,
    executor: ExecutorFactory = local_executor,
    observer: Observer = SILENT,
    arguments: str | None = None,
) -> TuneResult:
    """Search for the best configuration of a training that knows more of itself than any task, and return it.

    What is tried says ``plan``; the study ``study`` is kept in ``storage`` and continued if it is there. ``executor`` makes
    what evaluates. ``arguments`` says with what else than its trial an objective was made.
    Raises: StudyError if the study cannot be opened or is another one's; SearchFailedError if no configuration was
    evaluated at full fidelity.
    """
    search = plan.search_on(ladder, space)
    direction = plan.direction or "minimize"
    terms = terms_of(
        search,
        plan,
        arguments=arguments,
        task=training.name,
        space=space.fingerprint,
        direction=direction,
        sample_unit=plan.sample_unit or "samples",
        source=source_digest(training),
        has_own=bool(plan.initial),
    )
    workload = _workload(training, search, plan, observer)
    run = _Run(search, plan.draws(space, direction), workload, executor, observer, plan.first)
    return _search(storage, study, terms, run, space)


def tune_task(
    task: Task,
    *,
    study: str | None = None,
    ladder: GivenLadder | None = None,
    plan: SearchPlan = SearchPlan(),
    training: TrainingOptions = TrainingOptions(),
    storage: Path | str = DEFAULT_STORAGE,
    executor: ExecutorFactory = local_executor,
    observer: Observer | None = None,
    **fields: Unpack[PlanFields],
) -> TuneResult:
    """Search for the best configuration of a task, and return it.

    What the search may cost and what it tries says ``plan``, or its fields by themselves, as in ``budget=12``, which go
    before it. The study's name is the task's unless told otherwise.
    ``ladder`` is one for the task, what makes one (``Ladder.diagonal``) or a name ("samples-only"). Without it climbs the
    one that the study was begun with, and a new one ``Ladder.sieve`` under a budget, else ``Ladder.diagonal``. The task's
    own configuration comes first, unless the plan has others. How the trainings run says ``training``. A search whose last
    rung is predicted not to fit into the memory is refused. The rest, the errors too, is as in ``tune``.
    """
    check_options(fields, "plan", "study", "ladder", "training", "storage", "executor", "observer")
    check_factory(executor)
    check_task(task)
    check_kind("plan", plan, SearchPlan, "a plan, such as frostline.SearchPlan(budget=12)")
    check_kind("training", training, TrainingOptions, "options, such as frostline.TrainingOptions(device='cuda')")
    storage, given = checked_place(storage), checked_ladder(ladder)
    study, plan = study or task.name, replace(plan, **fields)
    check_study_name(study)
    shown = observing(
        observer,
        what=f"the search of {study}",
        storage=storage,
        sample_unit=task.sample_unit,
        metric=metric_of(task),
    )
    with shown as watching:
        begun = terms_in(storage, study)
        plan = replace(plan, against=begun_against(begun, plan.against))
        if given is None:
            climbed = begun_ladder(begun, default_ladder(task, plan))
        else:
            num_layers = layers_of(task).num_layers
            climbed = ladder_by(
                given, num_layers=num_layers, full_samples=task.full_samples, unit=task.sample_unit
            )
        if training.horizon is None:
            horizon = begun_horizon(begun, usual_horizon(is_budgeted=plan.is_budgeted))
            training = replace(training, horizon=horizon)
        if training.statistics is None:
            training = replace(training, statistics=begun_statistics(begun))
        if not plan.initial:
            try:
                plan = replace(plan, initial=(own_configuration(task),))
            except SearchSpaceError as error:
                logger.warning("the task's own configuration takes no part: %s", error)
        return search_task(
            task,
            plan.search_on(climbed, task.space),
            study=study,
            plan=plan,
            training=TaskSearch(options=training),
            storage=storage,
            executor=executor,
            observer=watching,
        )


def search_task(
    task: Task,
    search: Search,
    *,
    study: str,
    plan: SearchPlan = SearchPlan(),
    training: TaskSearch = TaskSearch(),
    storage: str | Storage = DEFAULT_STORAGE,
    executor: ExecutorFactory = local_executor,
    observer: Observer = SILENT,
) -> TuneResult:
    """Run ``search`` over a task's configurations, and return the best: ``tune_task`` with any search, also over a grid.

    Of ``plan`` the search itself is left out. Raises: AlignmentError if the alignment does not fit the space or the model;
    OptionError if what models are to cost beside their score cannot be measured.
    """
    observer = within_budget(search, observer)
    if plan.against is not None:
        training = replace(training, options=alone(training.options, plan.against))
    terms, alignment = terms_of_task(task, search, plan, training), training.alignment
    trains = TaskTraining(task=task, options=training.options, study=study, seed=plan.seed)

    def made(workload: Workload) -> Executor:
        made = executor(workload)
        if training.known is not None:
            made = RememberingExecutor(known=training.known, executor=made)
        if not alignment.is_identity:
            made = AligningExecutor(alignment=alignment, executor=made)
        if plan.against is not None:
            meter = ModelMeter(task, plan.against, device_plan=training.options.device_plan)
            made = MeteringExecutor(model_cost=meter, executor=made)
        return made

    workload = _workload(trains, search, plan, observer)
    draws = plan.draws(task.space, task.direction)
    run = _Run(search, draws, workload, made, observer, plan.first, alignment=alignment, joins=training.joins)
    return _search(storage, study, terms, run, task.space)


def own_configuration(task: Task) -> dict[str, Value]:
    """Return the task's own configuration, of what is searched.

    Raises: SearchSpaceError if it has none, or it lies outside the space.
    """
    own = {name: task.defaults[name] for name in task.space.distributions if name in task.defaults}
    task.space.validate(own)
    return own


def default_ladder(task: Task, plan: SearchPlan) -> Ladder:
    """Return the ladder of a task that is climbed if nobody says."""
    return plan.usual_ladder(num_layers=layers_of(task).num_layers, full_samples=task.full_samples)


@dataclass(frozen=True, slots=True)
class _Run:
    search: Search
    proposer: Proposer
    workload: Workload
    executor: ExecutorFactory
    observer: Observer
    own: Sequence[Mapping[str, Value]]
    """The first configurations, which are the user's and not drawn."""
    alignment: Alignment = IDENTITY
    joins: bool = False
    """Whether the study has to be there already."""

    def in_study(self, identity: str) -> _Run:
        """Return the same in the study that ``identity`` tells from others of its name."""
        training = self.workload.training.in_study(identity)
        return replace(self, workload=replace(self.workload, training=training))

    @property
    def models(self) -> KeptModels | None:
        """Where the models that are trained in full are kept."""
        return self.workload.training.models


def _search(storage: str | Storage, name: str, terms: Terms, run: _Run, space: SearchSpace) -> TuneResult:
    identity = identity_in(storage, name)
    while True:
        run = run.in_study(identity)
        with closing(run.executor(run.workload)) as executor, opened(storage) as place:
            if run.models is not None:
                run.models.folder.check()
            kept = KeptSamples(workload=run.workload, alignment=run.alignment)
            study = SearchStudy.open(
                place, name, terms=terms, space=space, samples_kept=kept, joins=run.joins, identity=identity
            )
            with closing(study):
                if study.identity == identity:
                    return _climbed(place, study, executor, run)
            # Another process has begun it in the meantime.
            identity = study.identity


def _climbed(place: Storage, study: SearchStudy, executor: Executor, run: _Run) -> TuneResult:
    """Let the search climb in its study, which is open, and return what it found."""
    terms, last_rung = study.terms, len(study.terms.rungs) - 1
    if isinstance(run.search, Climb) and terms.expected:
        study.check_total(run.search.configurations)
    keeping = KeepingTheBest(run.observer, run.models, last_rung=last_rung, num_own=len(run.own))
    climb(study, run.search, run.proposer, executor, keeping)
    history = study.history
    # What a process left that was killed before it could delete it.
    keeping.sweep(history)
    _warn_of_other_own(run, history)
    best = best_evaluation(history)
    if best is None or best.rung != last_rung:
        raise SearchFailedError(why_nothing_was_found(history, last_rung=last_rung))
    return TuneResult(
        study_name=study.name,
        place=place,
        models=run.models,
        terms=terms,
        summary=summary_of(history, terms),
        history=history,
        best=best,
        own=_own(run, history),
    )


def _workload(
    training: TaskTraining | OwnTraining, search: Search, plan: SearchPlan, observer: Observer
) -> Workload:
    return Workload(
        training=training,
        ladder=search.ladder,
        learns=plan.learns,
        in_waves=_depends_on_order(search, plan),
        progress=observer.progressed,
    )


def _warn_of_other_own(run: _Run, history: History) -> None:
    """Say so if the study was begun with another configuration of one's own, with which it goes on."""
    for begun, own in zip(history.configurations, run.own, strict=False):
        if dict(begun.hyperparameters) != dict(own):
            logger.warning(
                "configuration %d of the study is %s, and not %s, which is not trained: give it a study of its own",
                begun.number,
                dict(begun.hyperparameters),
                dict(own),
            )


def _depends_on_order(search: Search, plan: SearchPlan) -> bool:
    """Return whether what is evaluated next depends on which evaluations have ended, and not only on closed rungs."""
    return plan.learns or isinstance(inner_search(search), AsynchronousHalving)


def _own(run: _Run, history: History) -> Evaluation | None:
    """Return the best of the configurations that a budgeted search was given as one's own, trained in full."""
    search = run.search
    if not (run.own and isinstance(search, BudgetedHalving)):
        return None
    ranking = history.rung(len(search.ladder.rungs) - 1, part=range(search.num_own)).ranking
    return history.evaluation(ranking[0], len(search.ladder.rungs) - 1) if ranking else None
