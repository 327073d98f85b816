"""A search under the real loop, with workers that end in any order, and every way in which an evaluation may end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from frostline.records import Configuration, Cost, Direction, Evaluation, Job, Request, Status
from frostline.run.ledger import MemoryLedger
from frostline.run.loop import climb
from frostline.search.history import History
from frostline.search.interface import Climb, Rungs
from frostline.search.ladder import Ladder

Outcome = Callable[[Request], float | Status]
"""The score of a request, or how it ends instead."""

LADDER = Ladder.diagonal(num_layers=10, full_samples=1000, num_rungs=3)


def ended(request: Request, outcome: float | Status) -> Evaluation:
    """An evaluation on ``LADDER``, or in full above it, that took a second for each full training that it is worth."""
    finished = not isinstance(outcome, Status)
    fidelity = LADDER.rungs[min(request.rung, len(LADDER.rungs) - 1)]
    return Evaluation(
        number=request.number,
        rung=request.rung,
        fidelity=fidelity,
        status=Status.FINISHED if finished else outcome,
        score=outcome if finished else None,
        cost=Cost(seconds=LADDER.relative_cost(fidelity), samples=fidelity.samples),
    )


def drawn(number: int) -> Configuration:
    return Configuration(number=number, hyperparameters={"number": number})


class Delegating:
    """A search in front of another one: override what is to be watched."""

    def __init__(self, search: Climb) -> None:
        self.search = search

    @property
    def ladder(self) -> Rungs:
        return self.search.ladder

    @property
    def configurations(self) -> int:
        return self.search.configurations

    @property
    def fingerprint(self) -> str:
        return self.search.fingerprint

    def evaluations_per_rung(self) -> Sequence[int]:
        return self.search.evaluations_per_rung()

    def started_per_rung(self) -> Sequence[int]:
        return self.search.started_per_rung()

    def next_requests(self, history: History, *, capacity: int) -> Sequence[Request]:
        return self.search.next_requests(history, capacity=capacity)

    def eliminated(self, history: History) -> Sequence[int]:
        return self.search.eliminated(history)


class _Checked(Delegating):
    """Checks that what is asked for may be asked for."""

    def __init__(self, search: Climb, asked: list[list[Request]]) -> None:
        super().__init__(search)
        self._asked = asked

    def next_requests(self, history: History, *, capacity: int) -> Sequence[Request]:
        requests = [*self.search.next_requests(history, capacity=capacity)]
        assert len(requests) <= capacity
        assert len(set(requests)) == len(requests)
        assert not set(requests) & history.pending
        new = {request.number for request in requests if request.number >= len(history.configurations)}
        assert new == set(range(len(history.configurations), len(history.configurations) + len(new)))
        last, asked = len(self.ladder.rungs) - 1, [request.number for request in requests]
        for request in requests:
            assert 0 <= request.rung <= last
            assert history.evaluation(request.number, request.rung) is None
            assert not history.has_begun(request.number, last)
            assert request.number not in history.eliminated
            if request.rung == last:
                assert asked.count(request.number) == 1
                assert request.number not in {pending.number for pending in history.pending}
        self._asked.append(requests)
        return requests


class WorkerDiedError(Exception):
    """What is under way is lost."""


@dataclass
class _Workers:
    """Workers that end their jobs in a random order; now and then all of them die."""

    number: int
    outcome: Outcome
    random: Random
    deaths: float
    model_cost: Callable[[int], float] | None
    under_way: set[Request] = field(default_factory=set)

    def room(self) -> int:
        return self.number - len(self.under_way)

    def submit(self, jobs: Sequence[Job]) -> None:
        self.under_way |= {job.request for job in jobs}

    def next_ended(self) -> Evaluation:
        request = self.random.choice(sorted(self.under_way))
        if self.random.random() < self.deaths:
            raise WorkerDiedError
        self.under_way.discard(request)
        evaluation = ended(request, self.outcome(request))
        cost = None if self.model_cost is None else self.model_cost(request.number)
        return replace(evaluation, model_cost=cost)

    def forget(self, number: int) -> None:
        pass

    def close(self) -> None:
        pass


class _Pruning(MemoryLedger):
    """A ledger that tells the history whose climb is over, as a study does."""

    def end(self, numbers: Iterable[int]) -> None:
        for number in list(numbers):
            self.history.eliminate(number)


def same_facts(history: History, pending: Iterable[Request] = ()) -> History:
    """A history made anew of the configurations and evaluations of another one, as when a study is read."""
    again = History(history.direction)
    for configuration in history.configurations:
        again.add_configuration(configuration)
    for evaluation in history.evaluations():
        again.finish(evaluation)
    for number in history.eliminated:
        again.eliminate(number)
    for request in pending:
        again.start(request)
    return again


@dataclass(kw_only=True)
class Simulation:
    """Runs a search with ``workers`` that end their evaluations in an order drawn from ``seed``."""

    search: Climb
    outcome: Outcome
    workers: int = 1
    seed: int = 0
    direction: Direction = "minimize"
    deaths: float = 0.0
    """The probability that the process dies instead of ending an evaluation, and another one goes on."""
    prunes: bool = False
    """Whether the history is told of the eliminated, as a study is."""
    drawn: Callable[[int], Configuration] = drawn
    model_cost: Callable[[int], float] | None = None
    """What a configuration's model costs, by its number, where that counts beside the score."""
    history: History = field(init=False)
    asked: list[list[Request]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.history = History(self.direction)

    def run(self) -> History:
        random = Random(self.seed)
        while True:
            ledger = (_Pruning if self.prunes else MemoryLedger)(self.direction)
            ledger.history = same_facts(self.history)
            workers = _Workers(self.workers, self.outcome, random, self.deaths, self.model_cost)
            try:
                climb(ledger, _Checked(self.search, self.asked), self, workers)
            except WorkerDiedError:
                self.history = ledger.history
            else:
                self.history = ledger.history
                return self.history

    def draw(self, history: History) -> Configuration:
        return self.drawn(len(history.configurations))


def evaluated(history: History) -> list[int]:
    """How many evaluations ended at each rung of ``LADDER``."""
    return [history.rung(rung).num_ended for rung in range(len(LADDER.rungs))]
