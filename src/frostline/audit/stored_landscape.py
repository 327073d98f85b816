"""From the study of an audit to its landscape."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

import numpy as np

from frostline.audit.landscape import Landscape, LayerCost
from frostline.errors import AuditError, OptionError, StudyError
from frostline.records import Status, loss_sign
from frostline.search.alignment import IDENTITY
from frostline.store.backends.storage import Storage, opened
from frostline.store.reading import read_study

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from frostline.records import Evaluation, Value
    from frostline.search.history import History
    from frostline.search.spaces.space import SearchSpace
    from frostline.store.terms import Terms

logger = logging.getLogger(__name__)

_Cell = tuple[int, int]

COSTS_NOTE = "layer costs"
"""Under this key an audit leaves, in its study, the fields of the predicted ``LayerCost`` of each number of layers."""


BASE_NOTE = "base audit"
"""Under this key an audit under an alignment leaves the name of the audit whose configurations it trains differently."""

ALIGNED_NOTE = "aligned audits"
"""Under this key that audit holds the names of those under alignments."""


def repeat_study(study: str, offset: int) -> str:
    """Return the name of the study of an audit's full trainings under the seed that is larger by ``offset``."""
    return f"{study}, seed +{offset}"


def read_landscape(storage: str | Storage, study: str) -> Landscape:
    """Return the landscape that lies in the study of an audit, and in those of its repeats.

    Raises: StudyError if there is no such study; AuditError as ``landscape_of``.
    """
    with opened(storage, must_exist=True) as place:
        swept = read_study(place, study)
        costs = swept.table(COSTS_NOTE)
        # Full trainings are not changed by an alignment, so that their repeats are those of the audit it began from.
        base = f"{swept.notes.get(BASE_NOTE) or study}"
        repeats: dict[int, Mapping[int, float]] = {}
        for offset in count(1):
            try:
                repeated = read_study(place, repeat_study(base, offset))
            except (OptionError, StudyError):
                break
            repeats[offset] = repeated_scores(swept.history, repeated.history)
    return landscape_of(
        swept.terms,
        swept.history,
        swept.space,
        layer_costs={layers: _layer_cost(fields) for layers, fields in costs.items()},
        repeats=repeats,
    )


def read_aligned(storage: str | Storage, study: str) -> tuple[Landscape, ...]:
    """Return the landscapes of the audits that trained the configurations of the audit ``study`` under alignments.

    One that holds no complete configuration yet is left out. Raises: as ``read_landscape``.
    """
    landscapes = []
    with opened(storage, must_exist=True) as place:
        for name in dict.fromkeys(read_study(place, study).lines(ALIGNED_NOTE)):
            try:
                landscapes.append(read_landscape(place, name))
            except (AuditError, OptionError, StudyError):
                logger.info("the audit %r cannot be read, and is left out", name, exc_info=True)
    return tuple(landscapes)


def repeated_scores(history: History, repeated: History) -> dict[int, float]:
    """Return the scores of the full trainings in ``repeated``, by the number that the configuration has in ``history``.

    One that diverged is infinite in the worse direction; one that failed is left out.
    """
    worst = loss_sign(history.direction) * math.inf
    number_of = {
        configuration_key(configuration): configuration.number
        for configuration in reversed(history.configurations)
    }
    scores = {}
    for evaluation in repeated.evaluations():
        number = number_of.get(configuration_key(repeated.configurations[evaluation.number]))
        if number is not None and evaluation.status is not Status.FAILED:
            scores[number] = worst if evaluation.score is None else evaluation.score
    return scores


def configuration_key(configuration: Mapping[str, Value]) -> frozenset[tuple[str, Value]]:
    """Return what two configurations of the same hyperparameters have in common, whatever their numbers."""
    return frozenset(configuration.items())


def _layer_cost(fields: Mapping[str, float]) -> LayerCost:
    known = {field.name: fields.get(field.name, math.nan) for field in dataclasses.fields(LayerCost)}
    return LayerCost(**known)


_UNKNOWN = LayerCost(flops_per_sample=np.nan, peak_bytes=np.nan)


def landscape_of(
    terms: Terms,
    history: History,
    space: SearchSpace,
    *,
    layer_costs: Mapping[int, LayerCost] | None = None,
    repeats: Mapping[int, Mapping[int, float]] | None = None,
) -> Landscape:
    """Return the landscape of the configurations that have been swept over the whole grid; the others are left out.

    Under the horizon "full" a training passes through every budget, and its cells are the validations on its way; under
    "rung" every cell is a training of its own. ``layer_costs`` are those predicted, by number of layers; ``repeats``
    are the scores of full trainings under other seeds: by how much the seed is larger, then by the configuration's number.
    Raises: AuditError if the study is no sweep over a grid, or no configuration is complete.
    """
    layers, budgets = _axes(terms)
    training = terms.training
    passing = training if training is not None and training.horizon == "full" and len(budgets) == 1 else None
    complete = [number for number in range(len(history.configurations)) if _is_complete(number, terms, history)]
    if not complete:
        raise AuditError(
            "no configuration has been trained at all cells of the grid yet: let `frostline audit` run on."
        )
    samples = budgets
    if passing is not None:
        trainings = [evaluation for number in complete for evaluation in history.evaluations_of(number)]
        samples = _budgets(trainings, budgets[-1], passing.num_validations)
    swept = _Cells.of(history, complete, layers, samples, nested=passing is not None)
    costs = [(layer_costs or {}).get(z, _UNKNOWN) for z in layers]
    predicted = np.array([cost.peak_bytes for cost in costs])[None, :, None]
    return Landscape(
        task=terms.task,
        reference="" if terms.reference is None else f"{terms.reference}",
        space=space,
        direction=terms.direction,
        sample_unit=terms.sample_unit,
        horizon="" if training is None else training.horizon,
        seed=terms.seed,
        configurations=tuple(history.configurations[number] for number in complete),
        layers=layers,
        samples=samples,
        scores=swept.scores,
        seconds=swept.seconds,
        peak_bytes=np.where(np.isnan(swept.peak_bytes), predicted, swept.peak_bytes),
        flops=np.broadcast_to(
            np.outer([cost.flops_per_sample for cost in costs], samples), swept.scores.shape
        ).copy(),
        repeats=_repeats_of(complete, repeats or {}),
        alignment=IDENTITY if training is None else training.alignment,
        metric=terms.metric,
    )


@dataclass(frozen=True, slots=True)
class _Cells:
    """What every configuration reached at every cell; shapes (C, Z, S)."""

    scores: NDArray[np.float64]
    seconds: NDArray[np.float64]
    peak_bytes: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        history: History,
        numbers: Sequence[int],
        layers: tuple[int, ...],
        samples: tuple[int, ...],
        *,
        nested: bool,
    ) -> _Cells:
        """Return the cells of the configurations ``numbers``; ``nested``: a training passes through all budgets."""
        shape = (len(numbers), len(layers), len(samples))
        cells = cls(*(np.full(shape, np.nan) for _ in range(3)))
        for index, number in enumerate(numbers):
            for evaluation in history.evaluations_of(number):
                z = layers.index(evaluation.fidelity.trainable_layers)
                reached = _passed(evaluation, samples) if nested else _own(evaluation, samples)
                for s, (score, spent) in reached.items():
                    cells.scores[index, z, s], cells.seconds[index, z, s] = score, spent
                if evaluation.cost.peak_bytes is not None:
                    cells.peak_bytes[index, z, list(reached)] = evaluation.cost.peak_bytes
        return cells


def _axes(terms: Terms) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the numbers of layers and of samples that were swept; AuditError if the study is no sweep over their grid."""
    make_one = f"make an audit with `frostline audit {terms.reference or 'TASK'}`"
    if not terms.is_sweep:
        raise AuditError(
            f"the study is a search by {terms.search}, and its survivors alone were trained further, so ranks over it would "
            f"mislead: {make_one}."
        )
    layers, budgets = (
        tuple(sorted(set(levels)))
        for levels in zip(*((rung.trainable_layers, rung.samples) for rung in terms.rungs), strict=True)
    )
    if len(terms.rungs) != len(layers) * len(budgets):
        raise AuditError(
            f"the study swept {len(terms.rungs)} rungs of {len(layers)} numbers of layers and {len(budgets)} of samples, "
            f"which are no grid: {make_one}."
        )
    return layers, budgets


def _repeats_of(numbers: Sequence[int], repeats: Mapping[int, Mapping[int, float]]) -> NDArray[np.float64]:
    scores = np.full((max(repeats, default=0), len(numbers)), np.nan)
    for offset, of_number in repeats.items():
        scores[offset - 1] = [of_number.get(number, np.nan) for number in numbers]
    return scores


def _is_complete(number: int, terms: Terms, history: History) -> bool:
    evaluations = [history.evaluation(number, rung) for rung in range(len(terms.rungs))]
    return all(evaluation is not None and evaluation.status is not Status.FAILED for evaluation in evaluations)


def _budgets(evaluations: list[Evaluation], full: int, num_validations: int) -> tuple[int, ...]:
    """Return the budgets that trainings passed through: where they were validated, if all were after as many samples.

    Then a rung of so many samples ends with the very step after which the audit has its score. With batches of different
    sizes these are equal shares of the full budget, and the scores are those of the next step.
    """
    passed = {tuple(point.samples for point in e.curve) for e in evaluations if e.status is Status.FINISHED}
    if len(passed) == 1:
        (points,) = passed
        if points[-1] <= full:
            return (*points[:-1], full)
    return tuple(full * (index + 1) // num_validations for index in range(num_validations))


def _passed(evaluation: Evaluation, samples: tuple[int, ...]) -> dict[int, tuple[float, float]]:
    """Return the score and seconds at every budget that a training passed through.

    A validation is due after the first step at or beyond a budget; one step may pass several. Steps take the same time.
    """
    points = evaluation.curve
    reached: dict[int, tuple[float, float]] = {}
    for index, budget in enumerate(samples):
        at = next((point for point in points if point.samples >= budget), points[-1] if points else None)
        # The last step of a training ends before its budget where batches do not divide it.
        is_reached = at is not None and (at.samples >= budget or evaluation.status is Status.FINISHED)
        score = at.score if at is not None and is_reached else float("nan")
        trained = max(evaluation.cost.samples, 1)
        share = min(1.0, (at.samples if at is not None and is_reached else trained) / trained)
        reached[index] = (score, evaluation.cost.seconds * share)
    return reached


def _own(evaluation: Evaluation, samples: tuple[int, ...]) -> dict[int, tuple[float, float]]:
    """Return the score and seconds of a training at its own budget; one that continued another, as if from scratch."""
    score = float("nan") if evaluation.score is None else evaluation.score
    own = max(evaluation.cost.samples, 1)
    all_of_it = max(own, evaluation.curve[-1].samples) if evaluation.curve else own
    return {samples.index(evaluation.fidelity.samples): (score, evaluation.cost.seconds * all_of_it / own)}
