"""What an Optuna sampler is shown of a search: a study of its own that mirrors the history."""

from __future__ import annotations

import logging
import math
import threading
from contextlib import contextmanager
from enum import Enum, auto
from statistics import median
from typing import TYPE_CHECKING, Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.storages import InMemoryStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from frostline.records import Direction, Evaluation, Status, Value, loss_sign
from frostline.search.proposals.trial_view import STUDY_NAME, TrialView

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from optuna.samplers import BaseSampler

    from frostline.search.history import History


class Learning(Enum):
    """What a sampler learns from, in view of scores that come from different rungs."""

    NOTHING = auto()
    """Every draw stands alone."""
    SEQUENCE = auto()
    """Draw k is point k of a fixed sequence."""
    GRID = auto()
    """Draw k is point k of a shuffled grid."""
    RUNGS = auto()
    """The rung reached and the score there: pruned trials, which TPE sorts by both."""
    RANKS = auto()
    """One value by which a higher rung is better than any lower one, and the score decides within a rung.

    For CMA-ES, which compares the values of complete trials and uses nothing else of them.
    """
    ALIGNED = auto()
    """The score at the highest rung reached, less what the climb there changed in the median: comparable values.

    For a Gaussian process, to which a step between rungs would look like a property of the space, and wherever what models
    cost counts too: Optuna's samplers know no rungs of several values.
    """


class Mirror:
    """An Optuna study with one trial for each configuration of a history.

    It shows the same whether it was kept up to date or made anew, and however often it is asked. A configuration
    of which nothing is known is RUNNING; one that failed is FAIL. Where ``costs_count`` the second value of a trial is what
    its model costs.
    """

    def __init__(
        self,
        distributions: Mapping[str, BaseDistribution],
        learning: Learning,
        direction: Direction,
        *,
        costs_count: bool = False,
    ) -> None:
        self._distributions = dict(distributions)
        self._learning = learning
        self._costs_count = costs_count
        self._direction: Direction = direction
        self._history: History | None = None
        self._reset()

    def draw(self, sampler: BaseSampler, history: History) -> tuple[dict[str, Value], dict[str, Any]]:
        """Return the next values, and what the sampler wrote beside the trial and wants to see there again."""
        self._follow(history)
        number = len(history.configurations)
        trial = self._view.trial(number)
        trial.params, trial.distributions, trial.system_attrs = {}, {}, {}
        # A fresh study, because a study keeps a list of its trials that grows stale without ask and tell.
        study = optuna.load_study(study_name=STUDY_NAME, storage=self._view, sampler=sampler)
        values = sampler.sample_relative(study, trial, self._relative())
        values |= sampled_alone(sampler, study, trial, without(self._distributions, values))
        state = self._view.trial(number).system_attrs if self._learning is Learning.RANKS else {}
        return values, dict(state)

    def _relative(self) -> dict[str, BaseDistribution]:
        """The hyperparameters that the sampler draws together."""
        numbers_only = self._learning is Learning.RANKS
        return {
            name: distribution
            for name, distribution in self._distributions.items()
            if not (distribution.single() or (numbers_only and isinstance(distribution, CategoricalDistribution)))
        }

    def _reset(self) -> None:
        self._view = TrialView(self._direction, costs_count=self._costs_count)
        self._num_configurations = 0
        self._num_evaluations = 0

    def _follow(self, history: History) -> None:
        if history is not self._history:
            self._history = history
            self._reset()
        for configuration in history.configurations[self._num_configurations :]:
            trial = self._view.trial(configuration.number)
            trial.params = dict(configuration.hyperparameters)
            trial.distributions = self._distributions
            trial.system_attrs = dict(configuration.sampler_state)
        self._num_configurations = len(history.configurations)
        changed = {evaluation.number for evaluation in history.evaluations(since=self._num_evaluations)}
        self._num_evaluations = history.num_evaluations
        for number in changed:
            self._refresh(number, history)
        if changed and self._learning is Learning.ALIGNED:
            self._align(history)

    def _refresh(self, number: int, history: History) -> None:
        trial = self._view.trial(number)
        evaluation = history.last_evaluation(number)
        assert evaluation is not None
        if not self._tells(evaluation):
            trial.state, trial.values = TrialState.FAIL, None
        elif self._learning is Learning.RUNGS:
            score = math.nan if evaluation.score is None else evaluation.score
            trial.state, trial.intermediate_values = TrialState.PRUNED, {evaluation.rung: score}
        elif self._learning is Learning.RANKS:
            trial.state, trial.value = TrialState.COMPLETE, _rank(evaluation, self._direction)
        else:
            trial.state = TrialState.COMPLETE

    def _align(self, history: History) -> None:
        """Give the trials that did not fail their aligned scores, which every further evaluation may move."""
        shifts = _shifts(history)
        last = {number: history.last_evaluation(number) for number in range(self._num_configurations)}
        aligned = {
            number: evaluation.score - shifts[evaluation.rung]
            for number, evaluation in last.items()
            if evaluation is not None and evaluation.score is not None
        }
        sign = loss_sign(self._direction)
        worst = max(aligned.values(), key=lambda score: sign * score, default=0.0)
        for number, evaluation in last.items():
            if evaluation is not None and self._tells(evaluation):
                # What diverged is as bad as the worst that did not: anything worse would flatten the rest.
                cost = evaluation.model_cost if self._costs_count else None
                self._view.trial(number).values = [aligned.get(number, worst), *([] if cost is None else [cost])]

    def _tells(self, evaluation: Evaluation) -> bool:
        """Return whether an evaluation gave all that counts, or diverged."""
        return evaluation.status is not Status.FAILED and not (self._costs_count and evaluation.model_cost is None)


def private_storage(direction: Direction, *, name: str = STUDY_NAME) -> InMemoryStorage:
    """Return a storage with one empty study, of which nobody is told."""
    storage = InMemoryStorage()
    with _unannounced():
        storage.create_new_study([StudyDirection[direction.upper()]], name)
    return storage


def private_study(direction: Direction, sampler: BaseSampler) -> tuple[Study, InMemoryStorage]:
    """Return an empty study in memory for ``sampler``, and its storage."""
    storage = private_storage(direction)
    return optuna.load_study(study_name=STUDY_NAME, storage=storage, sampler=sampler), storage


def sampled_alone(
    sampler: BaseSampler, study: Study, trial: FrozenTrial, distributions: Mapping[str, BaseDistribution]
) -> dict[str, Value]:
    """Return a value for each of ``distributions``, drawn one by one."""
    return {
        name: _only_value(distribution)
        if distribution.single()
        else sampler.sample_independent(study, trial, name, distribution)
        for name, distribution in distributions.items()
    }


def without(distributions: Mapping[str, BaseDistribution], names: Iterable[str]) -> dict[str, BaseDistribution]:
    """Return ``distributions`` without those of ``names``."""
    left_out = set(names)
    return {name: distribution for name, distribution in distributions.items() if name not in left_out}


def _only_value(distribution: BaseDistribution) -> Value:
    # A search space refuses ranges of a single value, so what is left is a single choice.
    assert isinstance(distribution, CategoricalDistribution)
    return distribution.choices[0]


def _shifts(history: History) -> list[float]:
    """Return for each rung what climbing there from the lowest changes in a score: the sum of the median differences."""
    shifts = [0.0]
    for rung in range(1, history.num_rungs):
        differences = []
        for number in history.rung(rung).ranking:
            below, here = history.evaluation(number, rung - 1), history.evaluation(number, rung)
            if below is not None and below.score is not None and here is not None and here.score is not None:
                differences.append(here.score - below.score)
        shifts.append(shifts[-1] + (median(differences) if differences else 0.0))
    return shifts


def _rank(evaluation: Evaluation, direction: Direction) -> float:
    sign = loss_sign(direction)
    if evaluation.score is None:
        worst_of_rung = 1.0
    else:
        # Into (-1, 1), rising, and steep enough that scores of a billion and more are still told apart.
        size = math.log1p(abs(evaluation.score))
        worst_of_rung = sign * math.copysign(size / (1 + size), evaluation.score)
    return sign * (worst_of_rung - 2 * evaluation.rung)


@contextmanager
def _unannounced() -> Iterator[None]:
    """Keep Optuna from announcing, in this thread, a study that is none of the user's business."""
    thread = threading.get_ident()

    def by_another_thread(record: logging.LogRecord) -> bool:
        return record.thread != thread

    logger = logging.getLogger(InMemoryStorage.__module__)
    logger.addFilter(by_another_thread)
    try:
        yield
    finally:
        logger.removeFilter(by_another_thread)
