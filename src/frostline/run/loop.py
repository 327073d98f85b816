"""The one loop: history -> next jobs -> evaluations, one at a time -> history."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from frostline.records import Configuration, Fidelity, Job, Status
from frostline.run.execution.bugs import stop_at_bug
from frostline.run.execution.stations import asking
from frostline.search.allowed_requests import check_request
from frostline.search.interface import Climb
from frostline.store.sharing.workers import TurnLostError

if TYPE_CHECKING:
    from frostline.protocols import Executor
    from frostline.records import Evaluation, Progress, Request
    from frostline.run.ledger import Ledger
    from frostline.search.history import History
    from frostline.search.interface import Rungs, Search


# Jobs are claimed ahead, at most so many, where a turn to decide takes more than a quarter of an evaluation: four workers
# would otherwise wait for each other's turns all the time.
_MOST_AHEAD, _AHEAD_PER_TURN = 31, 4


class Proposer(Protocol):
    """Draws new configurations: ``search.proposals.sampling.Draws``, or whatever stands in for it."""

    def draw(self, history: History) -> Configuration:
        """Return the configuration that comes next in ``history``, without adding it there."""
        ...


class Observer:
    """Is told how a search goes. Derive from it and override what you want to know."""

    stands_beside_view = False
    """Whether a search is shown as ever where this one is told of it, or this one takes the place of the view."""

    def began(self, search: Search, history: History) -> None:
        """A search begins, or goes on from ``history``."""

    def started(self, jobs: Sequence[Job]) -> None:
        """Jobs were handed to the executor: they are trained now, or wait for those that are."""

    def ended(self, evaluation: Evaluation, history: History) -> None:
        """An evaluation has ended; ``history`` holds everything known by then."""

    def progressed(self, progress: Progress) -> None:
        """A population has come further in its training."""


class Together(Observer):
    """Tells several observers of a search, in the place of its view."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def began(self, search: Search, history: History) -> None:
        """See ``Observer``."""
        for each in self._observers:
            each.began(search, history)

    def started(self, jobs: Sequence[Job]) -> None:
        """See ``Observer``."""
        for each in self._observers:
            each.started(jobs)

    def ended(self, evaluation: Evaluation, history: History) -> None:
        """See ``Observer``."""
        for each in self._observers:
            each.ended(evaluation, history)

    def progressed(self, progress: Progress) -> None:
        """See ``Observer``."""
        for each in self._observers:
            each.progressed(progress)


SILENT = Observer()


def climb(
    ledger: Ledger, search: Search, proposer: Proposer, executor: Executor, observer: Observer = SILENT
) -> None:
    """Evaluate until the search asks for nothing more: by this process, and by any other on the same study."""
    Loop(ledger, search, proposer, executor).run(observer)


class Loop:
    """One run of a search. It decides again whenever the executor has room: after every evaluation if that takes one.

    Raises: TrainingBugError if nothing but the same error came of the first evaluations, which are recorded by then;
    RequestError if the search asks for what it may not.
    """

    def __init__(self, ledger: Ledger, search: Search, proposer: Proposer, executor: Executor) -> None:
        self._ledger = ledger
        self._search = search
        self._climb = search if isinstance(search, Climb) else None
        self._proposer = proposer
        self._executor = executor
        self._num_under_way = 0
        self._waiting: deque[Job] = deque()
        """Claimed ahead."""
        self._turn_seconds, self._evaluation_seconds = 0.0, math.inf
        """What the last turn took, and the last evaluation."""
        ledger.show(asking(executor))

    def run(self, observer: Observer) -> None:
        """Go on to the end of the search."""
        jobs = self.decide()
        # What others have done is known from the first decision on.
        observer.began(self._search, self._ledger.history)
        while True:
            if jobs:
                observer.started(jobs)
            if self._num_under_way > 0:
                begin = time.perf_counter()
                evaluation = self._executor.next_ended()
                self._evaluation_seconds = time.perf_counter() - begin
                self._num_under_way -= 1
                self.record(evaluation)
                observer.ended(evaluation, self._ledger.history)
                stop_at_bug(self._ledger.history)
            elif self._ledger.is_waiting:
                self._ledger.wait()
            else:
                self._end_all()
                return
            jobs = self.decide()

    def decide(self) -> list[Job]:
        """Hand the executor as many jobs as it has room for, and return them; half of those there are, in company."""
        room = self._executor.room()
        if room < 1:
            return []
        if not self._waiting:
            begin = time.perf_counter()
            self._waiting.extend(self._decided(room))
            self._turn_seconds = time.perf_counter() - begin
            self._forget()
        jobs = [self._waiting.popleft() for _ in range(min(room, len(self._waiting)))]
        self._num_under_way += len(jobs)
        if jobs:
            self._executor.submit(jobs)
        return jobs

    def _decided(self, room: int) -> list[Job]:
        """Claim jobs in this worker's turn, and return them."""
        ledger = self._ledger
        try:
            with ledger.deciding() as news:
                if news:
                    ledger.end(self._eliminated())
                if ledger.in_company:
                    room += self._num_ahead()
                abandoned, is_unfinished = ledger.abandoned()
                # What was asked for once is evaluated first: then all that is asked for next, and that is drawn for it,
                # follows from as much as if nobody had gone.
                jobs = [self._claim(request) for request in abandoned[:room]]
                if is_unfinished:
                    jobs += [self._claim_new(request) for request in self._requests(room - len(jobs))]
        except TurnLostError:
            return self._decided(room)
        return jobs

    def _requests(self, room: int) -> Sequence[Request]:
        """Return what the search asks for, or half of it where other workers take the rest."""
        if not self._ledger.in_company:
            return self._search.next_requests(self._ledger.history, capacity=room)
        requests = self._search.next_requests(self._ledger.history, capacity=2 * room)
        return requests[: -(-len(requests) // 2)]

    def _claim_new(self, request: Request) -> Job:
        """Claim what the search asks for now, if it may."""
        check_request(request, self._search, self._ledger.history)
        return self._claim(request)

    def _num_ahead(self) -> int:
        """Return how many jobs are worth claiming ahead: enough that this worker's turns are few."""
        return min(_MOST_AHEAD, int(_AHEAD_PER_TURN * self._turn_seconds / max(self._evaluation_seconds, 1e-9)))

    def _claim(self, request: Request) -> Job:
        """Claim what a request asks for, and return it as a job; a new configuration is drawn unless the search says it."""
        history = self._ledger.history
        if request.number < len(history.configurations):
            configuration = history.configurations[request.number]
        elif request.values is not None:
            configuration = Configuration(number=request.number, hyperparameters=dict(request.values))
        else:
            configuration = self._proposer.draw(history)
        self._ledger.claim(configuration, request.rung)
        return job_of(configuration, request.rung, self._search.ladder, history)

    def record(self, evaluation: Evaluation) -> None:
        """Write down what has ended, and whose climb is over by that."""
        ledger = self._ledger
        ledger.record(evaluation)
        is_full = evaluation.rung == len(self._search.ladder.rungs) - 1
        if evaluation.status is Status.FINISHED or is_full:
            ledger.end(self._eliminated())
        else:
            # Another worker may have claimed another rung of what failed or diverged: its claims are read before it ends.
            with suppress(TurnLostError), ledger.deciding():
                ledger.end(self._eliminated())
        self._forget()

    def _eliminated(self) -> Iterator[int]:
        if self._climb is not None:
            yield from self._climb.eliminated(self._ledger.history)

    def _end_all(self) -> None:
        """End what a search that eliminates nobody on its way asks no more of."""
        history = self._ledger.history
        self._ledger.end(number for number in range(len(history.configurations)) if history.evaluations_of(number))
        self._forget()

    def _forget(self) -> None:
        for number in self._ledger.newly_ended():
            self._executor.forget(number)


def job_of(configuration: Configuration, rung: int, ladder: Rungs, history: History) -> Job:
    """Return the job that evaluates ``configuration`` at ``rung``, going on with whatever may be continued."""
    return Job(
        configuration=configuration,
        rung=rung,
        fidelity=ladder.rungs[rung],
        continued_from=_continued_from(configuration.number, rung, ladder, history),
        may_continue=rung + 1 < len(ladder.rungs) and ladder.continues(rung + 1),
    )


def _continued_from(number: int, rung: int, ladder: Rungs, history: History) -> tuple[Fidelity, ...]:
    lowest = rung
    # A configuration of a higher bracket did not begin at the ladder's lowest rung.
    while ladder.continues(lowest) and history.evaluation(number, lowest - 1) is not None:
        lowest -= 1
    return ladder.rungs[lowest:rung]
