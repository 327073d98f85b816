"""A search's history, kept in an Optuna study: one trial for each configuration, as ``store.trials`` lays it out.

A new configuration is written in one transaction, with the claim of its first rung, so that a process killed at any moment
leaves no half of one. Several rungs of one trial may be under way, in several processes. It is ended when none is: its state
follows from all its evaluations, and no record comes too late. A trial of which something failed, and of which another
worker may have claimed another rung since, is therefore ended in turn, after its claims have been read.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError
from optuna.study import StudyDirection
from optuna.trial import TrialState

from frostline.errors import StudyError
from frostline.records import Configuration, Evaluation, Request, Status
from frostline.search.history import History
from frostline.search.space import SearchSpace
from frostline.store.reading import TERMS, read_terms
from frostline.store.storage import Storage
from frostline.store.terms import Terms
from frostline.store.trials import claim_of, claims_in, new_trial, read_trial, record_of
from frostline.store.workers import SharedTurn, SoleWorker, Turn

logger = logging.getLogger(__name__)


class SearchStudy:
    """The history of one search and the Optuna study it lies in; several processes may work on the same one.

    It is the ledger of ``run.loop``.
    """

    def __init__(self, storage: Storage, study_id: int, *, name: str, terms: Terms, space: SearchSpace) -> None:
        self.name = name
        self.terms = terms
        self.history = History(terms.direction)
        self._place = storage
        self._storage = storage.backend
        self._space = space
        self._study_id = study_id
        self._trial_ids: list[int] = []
        self._settled: set[int] = set()
        self._ended: list[int] = []
        with storage.errors():
            self._turn: Turn = SoleWorker() if storage.is_memory else SharedTurn(storage.backend, study_id)

    @classmethod
    def open(cls, storage: Storage, name: str, *, terms: Terms, space: SearchSpace) -> SearchStudy:
        """Open the study ``name`` in ``storage``, or make it.

        Raises: StudyError if the storage fails, or holds a study of that name made under other terms.
        """
        backend = storage.backend
        with storage.errors():
            direction = StudyDirection[terms.direction.upper()]
            try:
                study_id = backend.create_new_study([direction], name)
                backend.set_study_user_attr(study_id, TERMS, terms.record())
            except DuplicatedStudyError:
                study_id = backend.get_study_id_from_name(name)
            kept = read_terms(backend, study_id, name=name)
            if kept is not None:
                kept.check_equal(terms, name=name)
            # None if a process was killed between the two writes above: the study is empty, and ours to begin.
            if kept is None or kept.expected != terms.expected:
                backend.set_study_user_attr(study_id, TERMS, terms.record())
        return cls(storage, study_id, name=name, terms=terms, space=space)

    def check_total(self, configurations: int) -> None:
        """Raise StudyError if the study holds more than ``configurations``, its total over all runs."""
        with self._place.errors():
            num_trials = self._storage.get_n_trials(self._study_id)
        if num_trials > configurations:
            raise StudyError(
                f"the study {self.name!r} holds {num_trials} configurations, and this run asks for {configurations} in "
                f"total: ask for {num_trials} or more, or use another study name."
            )

    @contextmanager
    def deciding(self) -> Iterator[bool]:
        """See ``run.ledger.Ledger``."""
        with self._place.errors(), self._turn.take():
            news = not self._trial_ids or self._turn.others()
            if news:
                self._read()
            yield news

    @property
    def in_company(self) -> bool:
        """Whether another worker was alive when it was last decided."""
        return self._turn.in_company()

    @property
    def is_waiting(self) -> bool:
        """Whether evaluations are under way, of other workers if none is of this one."""
        return bool(self.history.pending)

    def claim(self, configuration: Configuration, rung: int) -> None:
        """Let a rung of a configuration, new or known, be under way by this worker; called in its turn."""
        number, worker = configuration.number, self._turn.worker
        if number == len(self._trial_ids):
            trial = new_trial(configuration, self._space, rung=rung, worker=worker)
            self._trial_ids.append(self._storage.create_new_trial(self._study_id, trial))
            self.history.add_configuration(configuration)
        else:
            self._storage.set_trial_system_attr(self._trial_ids[number], *claim_of(rung, worker))
        self.history.start(Request(number, rung))

    def record(self, evaluation: Evaluation) -> None:
        """Write down an evaluation that ended, and end its trial if it is over by that."""
        with self._place.errors():
            self._write(evaluation)
            self.history.finish(evaluation)
            if evaluation.status is Status.FINISHED or self._is_full(evaluation):
                self._end_what_is_over([evaluation.number])

    def end(self, numbers: Iterable[int]) -> None:
        """End the trials of configurations that get no further."""
        # After nearly every evaluation there is nobody to end.
        ending = [number for number in numbers if number not in self._settled]
        if ending:
            with self._place.errors():
                for number in ending:
                    self._end(number)

    def newly_ended(self) -> list[int]:
        """Return the configurations whose climb this worker has ended since it was last asked."""
        ended, self._ended = self._ended, []
        return ended

    def close(self) -> None:
        """Give back what this worker has claimed and not evaluated: another may take it."""
        with self._place.errors():
            self._turn.leave()

    def _read(self) -> None:
        """Take the history from the storage: what other workers did, and what a killed one left."""
        trials = self._storage.get_all_trials(self._study_id, deepcopy=False)
        self.history = History(self.terms.direction)
        self._trial_ids = [trial._trial_id for trial in trials]
        self._settled = {trial.number for trial in trials if trial.state.is_finished()}
        for trial in trials:
            read_trial(trial, self.history)
            if trial.state.is_finished():
                self.history.eliminate(trial.number)
                continue
            for rung, worker in claims_in(trial):
                if self.history.evaluation(trial.number, rung) is None and self._turn.alive(worker):
                    self.history.start(Request(trial.number, rung))
        # A worker died between the record and the state that follows from it, or left a trial to the one that goes on.
        self._end_what_is_over(range(len(trials)))

    def _write(self, evaluation: Evaluation) -> None:
        """Write down an evaluation. The record comes last: once it is there, another worker may end the trial."""
        trial_id = self._trial_ids[evaluation.number]
        with self._unless_ended(evaluation.number):
            if evaluation.score is not None:
                self._storage.set_trial_intermediate_value(trial_id, evaluation.rung, evaluation.score)
            self._storage.set_trial_user_attr(trial_id, *record_of(evaluation))

    def _end_what_is_over(self, numbers: Iterable[int]) -> None:
        """End the trials that were evaluated at full fidelity and of which nothing is under way."""
        last = len(self.terms.rungs) - 1
        for number in numbers:
            is_over = self.history.evaluation(number, last) is not None and not self.history.is_pending(number)
            if is_over and number not in self._settled:
                self._end(number)

    def _end(self, number: int) -> None:
        """Give a trial the state that follows from all its evaluations."""
        if number in self._settled:
            return
        assert not self.history.is_pending(number), f"configuration {number} was ended while it was under way"
        self._settled.add(number)
        self._ended.append(number)
        self.history.eliminate(number)
        state, score, reason = self._outcome(number)
        trial_id = self._trial_ids[number]
        with self._unless_ended(number):
            if reason is not None:
                self._storage.set_trial_user_attr(trial_id, "reason", reason)
            self._storage.set_trial_state_values(trial_id, state, None if score is None else [score])

    def _outcome(self, number: int) -> tuple[TrialState, float | None, str | None]:
        """Return a trial's final state, its score unless it failed or diverged, and why it did, from the lowest rung."""
        evaluations = self.history.evaluations_of(number)
        assert evaluations, f"configuration {number} was ended before it was evaluated"
        last = evaluations[-1]
        if self._is_full(last) and last.status is Status.FINISHED:
            return TrialState.COMPLETE, last.score, None
        for status, state in ((Status.FAILED, TrialState.FAIL), (Status.DIVERGED, TrialState.PRUNED)):
            for evaluation in evaluations:
                if evaluation.status is status:
                    return state, None, evaluation.reason
        return TrialState.PRUNED, last.score, None

    def _is_full(self, evaluation: Evaluation) -> bool:
        return evaluation.rung == len(self.terms.rungs) - 1

    @contextmanager
    def _unless_ended(self, number: int) -> Iterator[None]:
        """Pass over writes to a trial that another worker has ended: what it wrote is what we would have written."""
        try:
            yield
        except UpdateFinishedTrialError:
            logger.info("configuration %d had been ended by another worker already", number)
            self._settled.add(number)
