"""A search's history, kept in an Optuna study: one trial for each configuration.

What lies where, so that Optuna and its dashboard read the study as it is:

- a trial's parameters are the configuration, its number the configuration's;
- the score of a finished rung is ``trial.report(score, step=rung)``, and everything else that is known of that evaluation
  the user attribute ``rung N``, which is written last and is what a resumed search believes;
- COMPLETE: evaluated at full fidelity. PRUNED: not promoted, or diverged. FAIL: its training raised (user attribute
  ``reason``). RUNNING: may still climb, or something of it is under way;
- the user attribute ``frostline`` of the study holds its terms; claims and samplers' notes are system attributes. Rung N is
  under way if the worker of ``frostline:claim N`` is alive and there is no ``rung N``.

A new configuration is written in one transaction, with the claim of its first rung, so that a process killed at any moment
leaves no half of one. Several rungs of one trial may be under way, in several processes. It is ended when none is: its state
follows from all its evaluations, and no record comes too late. A trial of which something failed, and of which another
worker may have claimed another rung since, is therefore ended in turn, after its claims have been read.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from frostline.errors import StudyError
from frostline.records import (
    Configuration,
    Cost,
    CurvePoint,
    Direction,
    Evaluation,
    Fidelity,
    Job,
    Request,
    Status,
)
from frostline.search.history import History
from frostline.search.interface import Rungs, Search
from frostline.search.sampling import Draws
from frostline.search.space import SearchSpace
from frostline.store.storage import close_storage, exists, open_storage, storage_errors, without_password
from frostline.store.workers import SharedTurn, SoleWorker, Turn

TERMS = "frostline"
_CLAIM = "frostline:claim "

READINGS_NOTE = "readings"
"""Under this key a search that learned how to read its rungs leaves the sentences that say so."""
_SAMPLER = "frostline:sampler"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a study is about. Runs that differ in any of it, but for the number of configurations, never mix."""

    task: str
    reference: str = dataclasses.field(compare=False)
    """What names the task on the command line: it may move."""
    data: str
    """Fingerprint of the data, the model and the budget."""
    space: str
    rungs: tuple[tuple[int, int], ...]
    """(trainable layers, samples) of every rung."""
    num_layers: int
    search: str
    sampler: str
    seed: int
    direction: Direction
    sample_unit: str
    expected: tuple[int, ...] = dataclasses.field(compare=False)
    """How many evaluations each rung sees in all: more if more configurations are asked for later."""
    settings: str
    """Whatever else changes the numbers: horizon, precision, how prefixes are frozen."""

    @property
    def fidelities(self) -> tuple[Fidelity, ...]:
        """The fidelity of every rung."""
        return tuple(Fidelity(trainable_layers=layers, samples=samples) for layers, samples in self.rungs)

    @classmethod
    def parse(cls, record: Mapping[str, Any]) -> Terms:
        """Return the terms that ``record`` was written from."""
        fields = {field.name: record[field.name] for field in dataclasses.fields(cls)}
        fields["rungs"] = tuple((layers, samples) for layers, samples in record["rungs"])
        fields["expected"] = tuple(record["expected"])
        return cls(**fields)

    def check_equal(self, other: Terms, *, name: str) -> None:
        """Raise StudyError if the study ``name``, made under these terms, is continued under ``other``."""
        for field in (field for field in dataclasses.fields(self) if field.compare):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            if mine != theirs:
                raise StudyError(
                    f"the study {name!r} was made with {field.name} {mine!r}, and this run has {theirs!r}: use another "
                    f"study name, or the settings that the study was made with."
                )


class SearchStudy:
    """The history of one search and the Optuna study it lies in; several processes may work on the same one."""

    def __init__(self, storage: BaseStorage, study_id: int, *, name: str, terms: Terms, place: str) -> None:
        self.name = name
        self.terms = terms
        self.history = History(terms.direction)
        self._storage = storage
        self._place = place
        self._study_id = study_id
        self._trial_ids: list[int] = []
        self._settled: set[int] = set()
        self._ended: list[int] = []
        with storage_errors(place):
            in_memory = isinstance(storage, InMemoryStorage)
            self._turn: Turn = SoleWorker() if in_memory else SharedTurn(storage, study_id)

    @classmethod
    def open(cls, storage: str, name: str, terms: Terms) -> SearchStudy:
        """Open the study ``name`` in ``storage``, or make it.

        Raises: StudyError if the storage cannot be opened, or holds a study of that name made under other terms.
        """
        opened = open_storage(storage)
        with storage_errors(storage):
            direction = StudyDirection.MINIMIZE if terms.direction == "minimize" else StudyDirection.MAXIMIZE
            try:
                study_id = opened.create_new_study([direction], name)
                opened.set_study_user_attr(study_id, TERMS, dataclasses.asdict(terms))
            except DuplicatedStudyError:
                study_id = opened.get_study_id_from_name(name)
            found = read_terms(opened, study_id, name=name)
            if found is not None:
                found.check_equal(terms, name=name)
            # None if a process was killed between the two writes above: the study is empty, and ours to begin.
            if found is None or found.expected != terms.expected:
                opened.set_study_user_attr(study_id, TERMS, dataclasses.asdict(terms))
        return cls(opened, study_id, name=name, terms=terms, place=storage)

    def check_total(self, configurations: int) -> None:
        """Raise StudyError if the study holds more than ``configurations``, its total over all runs."""
        with storage_errors(self._place):
            found = self._storage.get_n_trials(self._study_id)
        if found > configurations:
            raise StudyError(
                f"the study {self.name!r} holds {found} configurations, and this run asks for {configurations} in total: "
                f"ask for {found} or more, or use another study name."
            )

    def take(self, search: Search, draws: Draws, *, capacity: int) -> list[Job]:
        """Return up to ``capacity`` jobs that are this worker's now, drawing new configurations as they are asked for.

        Where other workers are alive it takes half of what there is, and leaves them the rest.
        """
        with storage_errors(self._place), self._turn.take():
            if not self._trial_ids or self._turn.others():
                self._read()
                self._settle(search)
            requests = search.next_requests(self.history, capacity=capacity)
            if self._turn.in_company():
                requests = requests[: -(-len(requests) // 2)]
            return [self._claim(request, search, draws) for request in requests]

    def waiting(self) -> bool:
        """Return whether evaluations are under way that other workers have claimed."""
        return bool(self.history.pending)

    def record(self, evaluation: Evaluation, search: Search) -> None:
        """Write down an evaluation, and which configurations it ends the climb of."""
        with storage_errors(self._place):
            self._write(evaluation)
            self.history.finish(evaluation)
            if evaluation.status is Status.FINISHED or self._is_full(evaluation):
                self._end_what_is_over([evaluation.number])
                self._settle(search)
                return
            with self._turn.take():
                if self._turn.others():
                    self._read()
                self._end_what_is_over([evaluation.number])
                self._settle(search)

    def newly_ended(self) -> list[int]:
        """Return the configurations whose climb this worker has ended since it was last asked."""
        ended, self._ended = self._ended, []
        return ended

    def close(self) -> None:
        """Give back what this worker has claimed and not evaluated: another may take it."""
        with storage_errors(self._place):
            self._turn.leave()
            close_storage(self._storage)

    def _claim(self, request: Request, search: Search, draws: Draws) -> Job:
        key, claim = f"{_CLAIM}{request.rung}", {"worker": self._turn.worker}
        if request.number == len(self.history.configurations):
            configuration = draws.draw(self.history)
            template = _trial_of(configuration, draws.space, {key: claim})
            trial_id = self._storage.create_new_trial(self._study_id, template)
            self._trial_ids.append(trial_id)
            self.history.add_configuration(configuration)
        else:
            configuration = self.history.configurations[request.number]
            self._storage.set_trial_system_attr(self._trial_ids[request.number], key, claim)
        self.history.start(request)
        ladder = search.ladder
        return Job(
            configuration=configuration,
            rung=request.rung,
            fidelity=ladder.rungs[request.rung],
            continued_from=self._continued_from(request, ladder),
            may_continue=request.rung + 1 < len(ladder.rungs) and ladder.continues(request.rung + 1),
        )

    def _continued_from(self, request: Request, ladder: Rungs) -> tuple[Fidelity, ...]:
        lowest = request.rung
        # A configuration of a higher bracket did not begin at the ladder's lowest rung.
        while ladder.continues(lowest) and self.history.evaluation(request.number, lowest - 1) is not None:
            lowest -= 1
        return ladder.rungs[lowest : request.rung]

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
            for rung, worker in _claims_in(trial):
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
            self._storage.set_trial_user_attr(trial_id, f"rung {evaluation.rung}", _record_of(evaluation))

    def _settle(self, search: Search) -> None:
        """End the trials of the configurations that get no further."""
        for number in search.eliminated(self.history):
            self._end(number)

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


def read_study(storage: str, name: str) -> tuple[Terms, History]:
    """Return the terms and the history of the study ``name``, to look at.

    Raises: StudyError if there is none of that name, or one that frostline did not make.
    """
    with _found(storage, name) as (opened, study_id):
        terms = read_terms(opened, study_id, name=name)
        if terms is None:
            raise StudyError(f"the study {name!r} is empty: start it with `frostline tune TASK --study {name}`.")
        history = History(terms.direction)
        for trial in opened.get_all_trials(study_id, deepcopy=False):
            read_trial(trial, history)
        return terms, history


def read_space(storage: str, name: str) -> SearchSpace:
    """Return the space that the configurations of the study ``name`` were drawn from.

    Raises: StudyError if there is no such study, or it holds no configuration yet.
    """
    with _found(storage, name) as (opened, study_id):
        for trial in opened.get_all_trials(study_id, deepcopy=False):
            return SearchSpace(distributions=trial.distributions)
    raise StudyError(f"the study {name!r} holds no configuration yet: let it run on.")


def read_note(storage: str, name: str, key: str) -> Any:
    """Return what ``write_note`` left under ``key`` in the study ``name``, or None; StudyError as ``read_study``."""
    with _found(storage, name) as (opened, study_id):
        return opened.get_study_user_attrs(study_id).get(f"{TERMS} {key}")


def write_note(storage: str, name: str, key: str, value: Any) -> None:
    """Leave a JSON value under ``key`` in the study ``name``; StudyError as ``read_study``."""
    with _found(storage, name) as (opened, study_id):
        opened.set_study_user_attr(study_id, f"{TERMS} {key}", value)


@contextmanager
def _found(storage: str, name: str) -> Iterator[tuple[BaseStorage, int]]:
    """Return the storage, opened, and the number of the study ``name`` in it, for as long as the context lasts."""
    place = without_password(storage)
    if not exists(storage):
        raise StudyError(f"there is no storage {place}: name the one that the search was given.")
    opened = open_storage(storage)
    with storage_errors(storage):
        try:
            study_id = opened.get_study_id_from_name(name)
        except KeyError:
            known = ", ".join(sorted(study.study_name for study in opened.get_all_studies())) or "none"
            close_storage(opened)
            raise StudyError(f"there is no study {name!r} in {place}; there are: {known}.") from None
        try:
            yield opened, study_id
        finally:
            close_storage(opened)


def read_terms(storage: BaseStorage, study_id: int, *, name: str) -> Terms | None:
    """Return the terms of a study, or None if it is new and empty; StudyError if it is somebody else's."""
    record = storage.get_study_user_attrs(study_id).get(TERMS)
    if record is not None:
        return Terms.parse(record)
    if storage.get_n_trials(study_id) > 0:
        raise StudyError(f"the study {name!r} holds trials that frostline did not make: use another study name.")
    return None


def read_trial(trial: FrozenTrial, history: History) -> None:
    """Add a trial's configuration and evaluations to ``history``, the lowest rung first."""
    if not _claims_in(trial):
        raise StudyError(
            f"trial {trial.number} of the study was not made by frostline: use another study name, or delete the trial."
        )
    state = trial.system_attrs.get(_SAMPLER, {})
    history.add_configuration(
        Configuration(number=trial.number, hyperparameters=dict(trial.params), sampler_state=state)
    )
    evaluations = []
    for key, record in trial.user_attrs.items():
        if key.startswith("rung "):
            evaluations.append(_evaluation_of(trial.number, int(key.removeprefix("rung ")), record))
    evaluations.sort(key=lambda evaluation: evaluation.rung)
    for evaluation in evaluations:
        history.finish(evaluation)


def _claims_in(trial: FrozenTrial) -> list[tuple[int, str]]:
    """Return the rungs of a trial that were ever claimed, each with the last worker that did."""
    claims = trial.system_attrs.items()
    return [(int(key.removeprefix(_CLAIM)), claim["worker"]) for key, claim in claims if key.startswith(_CLAIM)]


def _trial_of(configuration: Configuration, space: SearchSpace, claims: Mapping[str, Any]) -> FrozenTrial:
    return optuna.trial.create_trial(
        state=TrialState.RUNNING,
        params=dict(configuration.hyperparameters),
        distributions=dict(space.distributions),
        system_attrs={**claims, _SAMPLER: dict(configuration.sampler_state)},
    )


def _record_of(evaluation: Evaluation) -> dict[str, Any]:
    return {
        "status": str(evaluation.status),
        "score": evaluation.score,
        "trainable_layers": evaluation.fidelity.trainable_layers,
        "samples": evaluation.fidelity.samples,
        "seconds": evaluation.cost.seconds,
        "trained_samples": evaluation.cost.samples,
        "peak_bytes": evaluation.cost.peak_bytes,
        "population": evaluation.cost.population,
        "curve": [[point.samples, point.score] for point in evaluation.curve],
        "reason": evaluation.reason,
        **({"trained_with": dict(evaluation.trained_with)} if evaluation.trained_with else {}),
    }


def _evaluation_of(number: int, rung: int, record: Mapping[str, Any]) -> Evaluation:
    return Evaluation(
        number=number,
        rung=rung,
        fidelity=Fidelity(trainable_layers=record["trainable_layers"], samples=record["samples"]),
        status=Status(record["status"]),
        score=record["score"],
        cost=Cost(
            seconds=record["seconds"],
            samples=record["trained_samples"],
            peak_bytes=record["peak_bytes"],
            population=record["population"],
        ),
        curve=tuple(CurvePoint(samples, score) for samples, score in record["curve"]),
        reason=record["reason"],
        trained_with=record.get("trained_with", {}),
    )
