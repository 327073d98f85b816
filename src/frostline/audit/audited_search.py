"""Searches on the ladder that an audit recommends: of an audit that was made, or of a small one that is made first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from frostline.audit.auditor import AuditPlan
from frostline.audit.expectation import least_agreements
from frostline.audit.landscape import Landscape
from frostline.audit.recommendation import Recommendation, recommend
from frostline.audit.reuse import AuditedEvaluations
from frostline.audit.shifts import alignment_of_ladder, shifts
from frostline.audit.stored_landscape import read_aligned, read_landscape
from frostline.errors import StudyError
from frostline.protocols import Task
from frostline.records import Configuration, Evaluation, Value
from frostline.run.execution.options import TrainingOptions
from frostline.run.outcome.summary import best_evaluation
from frostline.search.algorithms.halving import CONFIGURATIONS
from frostline.search.algorithms.watched import WatchedHalving
from frostline.search.alignment import Alignment
from frostline.search.history import History
from frostline.search.interface import Rungs
from frostline.search.ladder import Ladder
from frostline.store.backends.storage import Storage
from frostline.store.begun import begun_statistics
from frostline.store.reading import read_study
from frostline.store.terms import Terms
from frostline.training.supervised.task_layers import layers_of

# A small audit: few configurations, so few numbers of layers too. It still costs as much as many full trainings.
_SMALL_CONFIGURATIONS = 12
_SMALL_LAYERS = 4
_SMALL_REPEATS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedSearch:
    """A search that follows from an audit: its ladder, what it may take for granted, what is known already."""

    recommendation: Recommendation
    least_agreement: tuple[float, ...]
    horizon: str
    statistics: str | None
    """By which it scored trainings before their end, and so the search does too."""
    known: AuditedEvaluations
    num_known: int
    """How many of the configurations are the audit's."""
    initial: Sequence[Mapping[str, Value]]
    configurations: int
    best: Evaluation | None
    """The best full training of the audit: the search may have to beat it. None if all diverged, or nothing is known."""
    best_configuration: Configuration | None
    alignment: Alignment
    """What the audit trained in place of its configurations where few layers were, and so the search does too."""

    @property
    def ladder(self) -> Ladder:
        """The recommended ladder."""
        return self.recommendation.chosen.ladder

    def watched(self, *, ladder: Ladder, configurations: int) -> WatchedHalving:
        """Return the search: halving by the recommended factor, which skips a rung that ranks worse than the audit says."""
        return WatchedHalving(
            ladder=ladder,
            configurations=configurations,
            reduction_factor=self.recommendation.chosen.reduction_factor,
            least_agreement=self.least_agreement,
        )


def small_audit(task: Task) -> AuditPlan:
    """Return the plan of a small audit: twelve configurations at about four numbers of layers."""
    num_layers = layers_of(task).num_layers
    layers = {1, num_layers, *(max(1, num_layers >> power) for power in range(1, _SMALL_LAYERS - 1))}
    return AuditPlan.of(task, configurations=_SMALL_CONFIGURATIONS, layers=sorted(layers), repeats=_SMALL_REPEATS)


def is_other_audit(begun: Terms | None, plan: AuditPlan) -> bool:
    """Return whether a study of the terms ``begun`` is there, and ``plan`` could not go on with it."""
    if begun is None:
        return False
    training = begun.training
    settings = None if training is None else (training.horizon, training.num_validations)
    return (begun.rungs, settings) != (plan.grid.rungs, (plan.horizon, plan.num_validations))


def search_of_audit(
    task: Task,
    *,
    storage: str | Storage,
    study: str,
    options: TrainingOptions,
    seed: int,
    configurations: int | None = None,
) -> AuditedSearch:
    """Return the search on the ladder that the audit ``study`` recommends.

    Of its ``configurations`` the first are the audit's own, whose evaluations are known: they cost nothing more. By default
    27 others are drawn. Under another ``seed`` or precision other numbers would come out, and nothing is known.
    Raises: StudyError if there is no such audit, or it is one of another task, budget or space; AuditError if nothing can be
    recommended.
    """
    audit = read_study(storage, study)
    terms, history = audit.terms, audit.history
    for what, theirs, mine in (
        ("task", terms.data, task.fingerprint),
        ("space", terms.space, task.space.fingerprint),
    ):
        if theirs != mine:
            raise StudyError(
                f"the audit {study!r} is of another {what} than this search: audit this one with "
                f"`frostline audit {task.name}`, with the same options."
            )
    landscape = read_landscape(storage, study)
    precision = None if terms.training is None else terms.training.precision
    same = terms.seed == seed and precision == options.precision
    initial = _initial(landscape) if same else ()
    total = len(initial) + CONFIGURATIONS if configurations is None else configurations
    recommendation = recommend(landscape, configurations=total)
    best = best_evaluation(history) if same else None
    return AuditedSearch(
        recommendation=recommendation,
        least_agreement=least_agreements(landscape, recommendation.chosen),
        horizon=landscape.horizon,
        statistics=begun_statistics(terms),
        known=AuditedEvaluations(terms, history if same else History(terms.direction)),
        num_known=min(total, len(initial)),
        initial=initial[:total],
        configurations=total,
        best=best if best is not None and best.fidelity == landscape.full else None,
        best_configuration=None if best is None else history.configurations[best.number],
        alignment=landscape.alignment,
    )


def alignment_of_audit(task: Task, ladder: Rungs, *, storage: str | Storage, study: str) -> Alignment:
    """Return what the audit ``study``, and those that aligned its configurations, say to train on a ladder's lower rungs.

    The identity where the evidence is weak. The audit may be one of another budget of the same model and space.
    Raises: StudyError if there is no such audit, or it is one of another space or number of layers; AuditError if it has
    fewer than five configurations.
    """
    landscape = aligning_audit(task, storage=storage, study=study)
    if not landscape.alignment.is_identity:
        return landscape.alignment
    budgets = [landscape.samples[landscape.nearest_cell(rung)[1]] for rung in ladder.rungs]
    found = shifts(landscape, read_aligned(storage, study), samples=budgets)
    return alignment_of_ladder(found, ladder)


def aligning_audit(task: Task, *, storage: str | Storage, study: str) -> Landscape:
    """Return the landscape of an audit that rungs of ``task`` may be aligned by. Raises: as ``alignment_of_audit``."""
    terms = read_study(storage, study).terms
    if terms.space != task.space.fingerprint or terms.num_layers != layers_of(task).num_layers:
        raise StudyError(
            f"the audit {study!r} is of another space or model than this search: align by one that "
            f"`frostline audit {task.name}` made, with the same options."
        )
    return read_landscape(storage, study)


def _initial(landscape: Landscape) -> tuple[Mapping[str, Value], ...]:
    return tuple(dict(configuration.hyperparameters) for configuration in landscape.configurations)
