"""A search run against a simulated executor: several workers, and every way in which an evaluation may end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from frostline.records import Configuration, Cost, Direction, Evaluation, Fidelity, Request, Status
from frostline.search.history import History
from frostline.search.ladder import Ladder

if TYPE_CHECKING:
    from frostline.search.interface import Search

Outcome = Callable[[Request], float | Status]
"""The score of a request, or how it ends instead."""

LADDER = Ladder.diagonal(num_layers=10, full_samples=1000, num_rungs=3)


def ended(request: Request, outcome: float | Status) -> Evaluation:
    finished = not isinstance(outcome, Status)
    return Evaluation(
        number=request.number,
        rung=request.rung,
        fidelity=Fidelity(trainable_layers=request.rung + 1, samples=request.rung + 1),
        status=Status.FINISHED if finished else outcome,
        score=outcome if finished else None,
        cost=Cost(seconds=1.0, samples=1),
    )


def drawn(number: int) -> Configuration:
    return Configuration(number=number, hyperparameters={"number": number})


@dataclass(kw_only=True)
class Simulation:
    """Runs a search with ``workers`` that end their evaluations in an order drawn from ``seed``."""

    search: Search
    outcome: Outcome
    workers: int = 1
    seed: int = 0
    direction: Direction = "minimize"
    deaths: float = 0.0
    """The probability that a worker dies instead of ending its evaluation."""
    prunes: bool = False
    """Whether the history is told of the eliminated, as the tuner does."""
    draw: Callable[[int], Configuration] = drawn
    history: History = field(init=False)
    asked: list[list[Request]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.history = History(self.direction)

    def run(self) -> History:
        random = Random(self.seed)
        while True:
            self.ask()
            if not self.history.pending:
                return self.history
            request = random.choice(sorted(self.history.pending))
            if random.random() < self.deaths:
                self.history.abandon(request)
            else:
                self.history.finish(ended(request, self.outcome(request)))
            if self.prunes:
                for number in self.search.eliminated(self.history):
                    self.history.eliminate(number)

    def ask(self) -> None:
        free = self.workers - len(self.history.pending)
        requests = self.search.next_requests(self.history, capacity=free)
        assert len(requests) <= free
        assert len(set(requests)) == len(requests)
        assert not set(requests) & self.history.pending
        for request in requests:
            assert self.history.evaluation(request.number, request.rung) is None
            if request.number >= len(self.history.configurations):
                self.history.add_configuration(self.draw(request.number))
            self.history.start(request)
        self.asked.append(requests)


def evaluated(history: History) -> list[int]:
    """How many evaluations ended at each rung of ``LADDER``."""
    return [history.rung(rung).num_ended for rung in range(len(LADDER.rungs))]
