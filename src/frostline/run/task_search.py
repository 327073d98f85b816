"""A search over a task's configurations before anything runs: how they are trained, and what its study is about."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frostline.errors import OptionError
from frostline.protocols import metric_of
from frostline.run.execution.options import TrainingOptions
from frostline.run.outcome.summary import expected_of
from frostline.search.algorithms.sweep import Sweep
from frostline.search.alignment import IDENTITY, Alignment
from frostline.search.budgets.budgeted import BudgetedHalving
from frostline.store.backends.storage import Storage, opened
from frostline.store.opening import join_study, open_study
from frostline.store.terms import BudgetTerms, TaskReference, Terms
from frostline.training.supervised.sources import source_digest

if TYPE_CHECKING:
    from frostline.protocols import Task
    from frostline.records import Evaluation, Job
    from frostline.run.plan import SearchPlan
    from frostline.search.interface import Search


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSearch:
    """How the configurations of a task are trained in a search, and what of it need not be trained."""

    options: TrainingOptions = TrainingOptions()
    alignment: Alignment = IDENTITY
    """What rungs of fewer layers train in place of the configurations."""
    known: Callable[[Job], Evaluation | None] | None = None
    """Answers jobs that need not be trained; asked with the values that would be."""
    reference: TaskReference | None = None
    """What names the task on the command line; by default its name alone."""
    recipe: Mapping[str, Any] | None = None
    """What ``frostline worker`` makes the same search from, JSON; None where no command can."""
    joins: bool = False
    """Whether the study has to be there already: then nothing of it is changed but by what is evaluated."""


def terms_of(search: Search, plan: SearchPlan, *, data: str = "", **of_task: object) -> Terms:
    """Return what the study of a search is about; ``of_task`` are those of its fields that the search does not tell."""
    ladder = search.ladder
    return Terms(
        data=data,
        rungs=tuple(ladder.rungs),
        num_layers=ladder.num_layers,
        search=search.fingerprint,
        is_sweep=isinstance(search, Sweep),
        sampler=plan.sampler.name,
        against=plan.against,
        seed=plan.seed,
        expected=tuple(expected_of(search)),
        budget=BudgetTerms(budget=search.budget, num_own=search.num_own, most=search.most)
        if isinstance(search, BudgetedHalving)
        else None,
        **of_task,  # type: ignore[arg-type]
    )


def terms_of_task(task: Task, search: Search, plan: SearchPlan, training: TaskSearch) -> Terms:
    """Return what the study of a search over a task's configurations is about.

    Raises: OptionError if the plan says another direction or unit than the task; AlignmentError if the alignment does not
    fit the space or the model.
    """
    if plan.direction not in (None, task.direction) or plan.sample_unit not in (None, task.sample_unit):
        raise OptionError(
            f"the plan says {plan.direction} over {plan.sample_unit}, but the task {task.name} is to {task.direction} over "
            f"{task.sample_unit}: leave both out."
        )
    training.alignment.check(task.space, num_layers=search.ladder.num_layers)
    return terms_of(
        search,
        plan,
        task=task.name,
        reference=training.reference or TaskReference(name=task.name),
        data=task.fingerprint,
        space=task.space.fingerprint,
        direction=task.direction,
        sample_unit=task.sample_unit,
        training=training.options.terms(training.alignment),
        source=source_digest(task),
        metric=metric_of(task),
        # What an audit trained comes first too, and was drawn.
        has_own=bool(plan.initial) and training.known is None,
        recipe=training.recipe,
    )


def begin_study(
    task: Task, search: Search, *, study: str, plan: SearchPlan, training: TaskSearch, storage: str | Storage
) -> None:
    """Write down what the study of a search is about, for others to work on, and train nothing.

    Raises: StudyError if it cannot be opened, or is another one's.
    """
    terms = terms_of_task(task, search, plan, training)
    with opened(storage) as place:
        (join_study if training.joins else open_study)(place, study, terms)
