"""A search's history, kept in an Optuna study: one trial for each configuration, as ``store.trials`` lays it out.

A new configuration is written in one transaction, with the claim of its first rung, so that a process killed at any moment
leaves no half of one. Several rungs of one trial may be under way, in several processes. It is ended when none is: its state
follows from all its evaluations, and no record comes too late. A trial of which something failed, and of which another
worker may have claimed another rung since, is therefore ended in turn, after its claims have been read.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain

from optuna.trial import FrozenTrial, TrialState

from frostline.errors import StudyError
from frostline.records import Configuration, Evaluation, Request, Station, Status
from frostline.search.history import History
from frostline.search.spaces.space import SearchSpace
from frostline.store.backends.access import Claims
from frostline.store.backends.fastest import access_to
from frostline.store.backends.storage import Storage, StorageErrors
from frostline.store.backends.vanishing import StudyFile
from frostline.store.identity import kept_identity, settled_identity
from frostline.store.opening import join_study, open_study
from frostline.store.reading import TERMS
from frostline.store.retries import counting_trials, has_only_failed, retrials
from frostline.store.sharing.deaths import SamplesKept, nothing_kept, set_aside
from frostline.store.sharing.news import Claimed, Ended, Event, Made, Recorded, Retried
from frostline.store.sharing.shared_history import SharedHistory
from frostline.store.sharing.turns import SoleWorker, Turn
from frostline.store.sharing.workers import SharedTurn
from frostline.store.terms import Terms
from frostline.store.trials import Claim, claim_of, new_trial, outcome_of, record_of
from frostline.wording import counted

logger = logging.getLogger(__name__)


class SearchStudy:
    """The history of one search and the Optuna study it lies in; several processes may work on the same one.

    It is the ledger of ``run.loop``.
    """

    def __init__(
        self,
        storage: Storage,
        study_id: int,
        *,
        name: str,
        terms: Terms,
        space: SearchSpace,
        samples_kept: SamplesKept = nothing_kept,
    ) -> None:
        self.name = name
        self.terms = terms
        self.identity = ""
        """What tells it from others of its name."""
        self._place = storage
        self._storage = storage.backend
        self._space = space
        self._samples_kept = samples_kept
        self._study_id = study_id
        self._known = SharedHistory(terms.direction, terms.rungs)
        self._claims: dict[int, list[Claim]] = {}
        """Of each configuration what was claimed in this turn, to be written at its end."""
        self._num_before = 0
        """How many configurations there were when it began."""
        self._mine: set[Request] = set()
        """What this worker has claimed and not evaluated."""
        self._alone: Request | None = None
        """What this worker evaluated by itself last."""
        self._is_mended = False
        """Whether the user's code is another than when the study was last worked on."""
        self._is_begun = False
        with storage.errors():
            self._file = StudyFile.of(storage)
            self._access = access_to(storage.backend, study_id)
            self._turn: Turn = (
                SoleWorker() if storage.is_memory else SharedTurn(self._access, check=self._check_file)
            )

    @classmethod
    def open(
        cls,
        storage: Storage,
        name: str,
        *,
        terms: Terms,
        space: SearchSpace,
        samples_kept: SamplesKept = nothing_kept,
        joins: bool = False,
        identity: str = "",
    ) -> SearchStudy:
        """Open the study ``name`` in ``storage``, or make it. ``samples_kept`` tells deaths at one place from others.

        One that is joined has to be there. One that has no ``identity`` gets the one that is offered.

        Raises: StudyError if the storage fails, or holds a study of that name made under other terms; OptionError if that is
            no name.
        """
        found = (join_study if joins else open_study)(storage, name, terms)
        study = cls(storage, found.study_id, name=name, terms=found.terms, space=space, samples_kept=samples_kept)
        study._is_mended = found.is_mended
        if identity:
            study._settle(identity)
        return study

    def _settle(self, offered: str) -> None:
        with self._storing():
            kept = kept_identity(self._storage, self._study_id)
            if kept is None:
                # Others may begin it at the same time: whoever has the first turn says.
                with self._turn.take():
                    kept = settled_identity(self._storage, self._study_id, offered)
        self.identity = kept

    def check_total(self, configurations: int) -> None:
        """Raise StudyError if the study holds more than ``configurations``, its total over all runs."""
        with self._place.errors():
            held = self._access.num_trials()
            if held > configurations:
                held = len(counting_trials(self._access.trials()))
        if held > configurations:
            raise StudyError(
                f"the study {self.name!r} holds {held} configurations, and this run asks for {configurations} in "
                f"total: ask for {held} or more, or use another study name."
            )

    def retry_failed(self, *, every: bool = False) -> list[int]:
        """Let what failed be tried once more; return the configurations, by their numbers.

        With ``every`` also what ran out of memory and what processes died of. See ``store.retries``.
        """
        with self._storing(), self._turn.take():
            self._known.is_read = False
            return self._retry(self._access.trials(), every=every)

    @property
    def history(self) -> History:
        """All that is known. It may be another object after ``deciding``."""
        return self._known.history

    @contextmanager
    def deciding(self) -> Iterator[bool]:
        """See ``run.ledger.Ledger``."""
        with self._storing(), self._turn.take():
            news = self._catch_up()
            self._mine &= self.history.pending
            self._claims, self._num_before = {}, len(self.history.configurations)
            yield news
            self._hand_over()

    @property
    def in_company(self) -> bool:
        """Whether another worker was alive when it was last decided."""
        return self._turn.in_company()

    @property
    def is_waiting(self) -> bool:
        """Whether evaluations are under way, of other workers if none is of this one."""
        return bool(self.history.pending)

    def wait(self) -> None:
        """Wait until another worker has done something, or is gone."""
        with self._storing():
            self._turn.wait()

    def abandoned(self) -> tuple[list[Request], bool]:
        """See ``run.ledger.Ledger``: what workers may die of comes last, each by itself."""
        claims, num_ended = self._known.abandoned, self.history.num_evaluations
        if self._alone in self._mine:
            return [], False
        if not claims:
            return [], True
        suspects = [request for request in claims if self._known.deaths[request].is_suspect]
        if not suspects:
            return [*claims], all(claim.num_ended == num_ended for claim in claims.values())
        if len(suspects) < len(claims) or self._mine:
            return [request for request in claims if request not in suspects], False
        self._alone = suspects[0]
        return [self._alone], False

    def claim(self, configuration: Configuration, rung: int) -> None:
        """Let a rung of a configuration, new or known, be under way by this worker; called in its turn."""
        claim = Claim(rung=rung, worker=self._turn.worker, num_ended=self.history.num_evaluations)
        self._claims.setdefault(configuration.number, []).append(claim)
        if configuration.number == len(self.history.configurations):
            self.history.add_configuration(configuration)
        request = Request(configuration.number, rung)
        self._mine.add(request)
        self._known.start(request)

    def record(self, evaluation: Evaluation) -> None:
        """Write down an evaluation that ended, and end its trial if it is over by that."""
        with self._storing():
            self._mine.discard(evaluation.request)
            self._write(evaluation)
            if evaluation.status is Status.FINISHED or self._is_full(evaluation):
                self._end_what_is_over([evaluation.number])

    def end(self, numbers: Iterable[int]) -> None:
        """End the trials of configurations that get no further."""
        # After nearly every evaluation there is nobody to end.
        ending = [number for number in numbers if number not in self._known.ended]
        if ending:
            with self._storing():
                for number in ending:
                    self._end(number)

    def show(self, stations: Callable[[], Sequence[Station] | None]) -> None:
        """See ``run.ledger.Ledger``."""
        self._turn.show(stations)

    def newly_ended(self) -> list[int]:
        """Return the configurations whose trials were found ended, or were ended, since this was last asked."""
        ended, self._known.newly_ended = self._known.newly_ended, []
        return ended

    def close(self) -> None:
        """Give back what this worker has claimed and not evaluated: another may take it.

        Raises: StudyError if the storage fails, or is not there any more.
        """
        with self._storing():
            self._turn.leave()

    def _storing(self) -> StorageErrors:
        """Return a context for what reads and writes the storage: its failures are StudyErrors."""
        self._check_file()
        return self._place.errors()

    def _check_file(self) -> None:
        if self._file is not None:
            self._file.check()

    def _catch_up(self) -> bool:
        """Bring the history up to date with what others did, and return whether there was anything."""
        # What is told before the trials are read is in them.
        events = self._turn.heard()
        if events is None or not (self._known.is_read and self._known.has_applied(events)):
            trials = self._access.trials()
            if not self._is_begun and self._retry_mended(trials):
                trials = self._access.trials()
            self._known.read(trials, self._turn.alive)
            for trial_id in self._known.left_open:
                self._access.end(trial_id, TrialState.FAIL, None, None)
            self._bury()
            # A worker died between the record and the state that follows from it, or left a trial to the one that goes on.
            self._end_what_is_over(range(len(self.history.configurations)))
            return True
        self._end_what_is_over({event.number for event in events})
        return bool(events)

    def _retry_mended(self, trials: Sequence[FrozenTrial]) -> list[int]:
        """Retry what failed, if the user's code is another by now or nothing but failures came of it; return the numbers."""
        self._is_begun, again = True, list[int]()
        if self._is_mended or (not self._turn.in_company() and has_only_failed(trials)):
            again = self._retry(trials)
        if again:
            logger.info("%s that failed: tried once more", counted(len(again), "configuration"))
        if self._is_mended:
            self._storage.set_study_user_attr(self._study_id, TERMS, self.terms.record())
        return again

    def _retry(self, trials: Sequence[FrozenTrial], *, every: bool = False) -> list[int]:
        """Make the trials that take the place of those that failed; return the numbers. Called in this worker's turn."""
        made = retrials(trials, num_rungs=len(self.terms.rungs), is_alive=self._turn.alive, every=every)
        for number, trial in made.items():
            self._storage.create_new_trial(self._study_id, trial)
            self._turn.tell(Retried(number))
        return [*made]

    def _bury(self) -> None:
        """Write down what the dead died of, if that is known, and let them be forgotten; set aside what two died of."""
        abandoned, deaths = self._known.abandoned, self._known.deaths
        for worker in self._turn.dead:
            died_of = [request for request, claim in abandoned.items() if claim.worker == worker]
            written = []
            for request in died_of if self._turn.has_died(worker) else ():
                samples = self._samples_kept(request, self.history)
                deaths[request] = deaths[request].with_worker(worker, was_alone=len(died_of) == 1, samples=samples)
                attribute = deaths[request].attribute(request.rung)
                written.append((self._trial_id(request.number), attribute))
            self._access.claim(Claims(known=written), self._turn.epitaph(worker))
        for request in [request for request in abandoned if deaths[request].is_proven]:
            logger.warning(
                "configuration %d is set aside: two processes ended while they evaluated it", request.number
            )
            self._write(set_aside(request, self.terms.rungs[request.rung]))

    def _hand_over(self) -> None:
        """Write down what was claimed in this turn, which ends with that."""
        history, claims = self.history, self._claims
        new = {number: history.configurations[number] for number in claims if number >= self._num_before}
        known = [
            (self._trial_id(number), claim_of(claim))
            for number in claims.keys() - new.keys()
            for claim in claims[number]
        ]
        # To be made by who tells them: in memory there is nobody to be told.
        events: Iterator[Event] = chain(
            (Made(number, dict(made.hyperparameters), dict(made.sampler_state)) for number, made in new.items()),
            (Claimed(number, claim.rung) for number, every in claims.items() for claim in every),
        )
        trials = [new_trial(configuration, self._space, claims[number]) for number, configuration in new.items()]
        with self._turn.handing_over(events) as attribute:
            made = self._access.claim(Claims(new=trials, known=known), attribute)
        self._known.trial_ids.update(zip(new, made, strict=True))

    def _write(self, evaluation: Evaluation) -> None:
        """Write down an evaluation. The record comes last: once it is there, another worker may end the trial."""
        key, record = record_of(evaluation)
        trial_id = self._trial_id(evaluation.number)
        if self._access.record(trial_id, evaluation.rung, evaluation.score, (key, record)):
            self._known.finish(evaluation)
            self._turn.tell(Recorded(evaluation.number, evaluation.rung, record))
        else:
            # This process was taken for dead, and its work was done by another, whose record counts.
            logger.info("configuration %d had been evaluated by another worker already", evaluation.number)
            self._known.finish(evaluation)
            self._known.is_read = False

    def _end_what_is_over(self, numbers: Iterable[int]) -> None:
        """End the trials that were evaluated at full fidelity and of which nothing is under way."""
        last = len(self.terms.rungs) - 1
        for number in numbers:
            is_over = self.history.evaluation(number, last) is not None and not self.history.is_pending(number)
            if is_over and number not in self._known.ended:
                self._end(number)

    def _end(self, number: int) -> None:
        """Give a trial the state that follows from all its evaluations."""
        if number in self._known.ended:
            return
        assert not self.history.is_pending(number), f"configuration {number} was ended while it was under way"
        self._known.end(number)
        self._turn.tell(Ended(number))
        # What another worker wrote that ended it is what we would have written.
        evaluations = self.history.evaluations_of(number)
        assert evaluations, f"configuration {number} was ended before it was evaluated"
        self._access.end(self._trial_id(number), *outcome_of(evaluations, last_rung=len(self.terms.rungs) - 1))

    def _is_full(self, evaluation: Evaluation) -> bool:
        return evaluation.rung == len(self.terms.rungs) - 1

    def _trial_id(self, number: int) -> int:
        trial_id = self._known.trial_ids.get(number)
        if trial_id is None:
            # Another worker has made it.
            place = number + self._known.num_retrials
            try:
                trial_id = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, place)
            except KeyError:
                raise StudyError(
                    f"the study {self.name!r} has no trial {place}, though a worker said that there is: run the same again."
                ) from None
            self._known.trial_ids[number] = trial_id
        return trial_id
