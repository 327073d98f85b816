"""Searches without elimination: every configuration at every rung, or each at full fidelity alone."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING

from frostline.errors import LadderError
from frostline.records import Request
from frostline.search.halving import first_requests

if TYPE_CHECKING:
    from frostline.search.history import History
    from frostline.search.ladder import Ladder


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """Every configuration at every rung: what a landscape and an audit are made of.

    The lower rung goes first, so that as many evaluations as possible can share one prefix. What fails or diverges
    at a rung climbs no further.
    Raises: LadderError if there is no configuration.
    """

    ladder: Ladder
    configurations: int

    def __post_init__(self) -> None:
        _check_positive(self.configurations)

    @property
    def fingerprint(self) -> str:
        """A string that changes when a study made with this search cannot be continued with another."""
        return "sweep"

    def evaluations_per_rung(self) -> tuple[int, ...]:
        """Return how many evaluations each rung sees if none fails or diverges."""
        return (self.configurations,) * len(self.ladder.rungs)

    def started_per_rung(self) -> tuple[int, ...]:
        """Return how many configurations begin their climb at each rung."""
        return (self.configurations, *repeat(0, len(self.ladder.rungs) - 1))

    def next_requests(self, history: History, *, capacity: int) -> list[Request]:
        """See ``Search``."""
        numbers = range(self.configurations)
        requests = first_requests(history, numbers, rung=0, capacity=capacity)
        for rung in range(len(self.ladder.rungs) - 1):
            most = capacity - len(requests)
            finished = history.rung(rung, part=numbers)
            requests += [
                Request(number, rung + 1) for number in finished.promotable(limit=self.configurations, most=most)
            ]
        return requests

    def eliminated(self, history: History) -> list[int]:
        """See ``Search``."""
        numbers = range(self.configurations)
        found = []
        for rung in range(len(self.ladder.rungs) - 1):
            found += history.rung(rung, part=numbers).beaten(limit=self.configurations)
        return sorted(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class FullFidelity:
    """Every configuration at the last rung alone: plain random search, or grid search, depending on the sampling.

    Raises: LadderError if there is no configuration.
    """

    ladder: Ladder
    configurations: int

    def __post_init__(self) -> None:
        _check_positive(self.configurations)

    @property
    def fingerprint(self) -> str:
        """A string that changes when a study made with this search cannot be continued with another."""
        return "full fidelity"

    def evaluations_per_rung(self) -> tuple[int, ...]:
        """Return how many evaluations each rung sees: exactly, whatever fails or diverges."""
        return (*repeat(0, len(self.ladder.rungs) - 1), self.configurations)

    def started_per_rung(self) -> tuple[int, ...]:
        """Return how many configurations begin at each rung."""
        return self.evaluations_per_rung()

    def next_requests(self, history: History, *, capacity: int) -> list[Request]:
        """See ``Search``."""
        return first_requests(
            history, range(self.configurations), rung=len(self.ladder.rungs) - 1, capacity=capacity
        )

    def eliminated(self, history: History) -> list[int]:  # noqa: ARG002 - every evaluation is at full fidelity
        """See ``Search``."""
        return []


def _check_positive(configurations: int) -> None:
    if configurations < 1:
        raise LadderError(
            f"{configurations} configurations were asked for, but a search needs at least 1: ask for more."
        )
