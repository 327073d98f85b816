"""Hyperband: brackets of successive halving that trust the lowest rungs less and less."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from frostline.errors import LadderError
from frostline.search.algorithms.halving import Bracket, check_configurations, check_reduction_factor, divided

if TYPE_CHECKING:
    from frostline.records import Request
    from frostline.search.history import History
    from frostline.search.ladder import Ladder


@dataclass(frozen=True, slots=True, kw_only=True)
class Hyperband:
    """Successive halving in brackets over one ladder: bracket b starts at rung b, the last one at full fidelity.

    Of k rungs, bracket b climbs the last s + 1 with s = k - 1 - b. Li et al. give it ceil(k / (s + 1) * r^s)
    configurations for a reduction factor of r, so that the brackets cost about the same. The total of
    ``configurations`` is divided in these proportions, in whole numbers: each bracket gets its share rounded down,
    and what is left over goes one by one to the largest remainders, the lower bracket first at a tie. Brackets
    hold consecutive configurations and run in order; workers that one bracket cannot use go on with the next.
    Raises: LadderError if there are fewer configurations than one round of Hyperband has, or ``reduction_factor``
    is below 2.
    Source: Li et al. 2018, arXiv:1603.06560, Algorithm 1.
    """

    ladder: Ladder
    configurations: int
    reduction_factor: int = 3
    brackets: tuple[Bracket, ...] = field(init=False, repr=False, compare=False)
    """The one that starts lowest first."""

    def __post_init__(self) -> None:
        check_reduction_factor(self.reduction_factor)
        check_configurations(self.configurations)
        needed = sum(self._weights())
        if self.configurations < needed:
            raise LadderError(
                f"{self.configurations} configurations are too few for the {len(self.ladder.rungs)} brackets of "
                f"Hyperband with a reduction factor of {self.reduction_factor}, which hold {self._weights()}: ask "
                f"for at least {needed}, or take the search 'halving', which needs {self._weights()[0]}."
            )
        object.__setattr__(self, "brackets", self._divide())

    @property
    def fingerprint(self) -> str:
        """A string that changes when a study made with this search cannot be continued with another.

        It holds the number of configurations, because that decides which bracket a configuration is in.
        """
        return f"hyperband of {self.configurations} configurations, reduction factor {self.reduction_factor}"

    def configurations_per_bracket(self) -> tuple[int, ...]:
        """Return how many configurations start at each rung: bracket b at rung b; together all of them."""
        weights = self._weights()
        shares = [divmod(self.configurations * weight, sum(weights)) for weight in weights]
        left = self.configurations - sum(share for share, _ in shares)
        by_remainder = sorted(range(len(shares)), key=lambda bracket: (-shares[bracket][1], bracket))
        return tuple(share + (bracket in by_remainder[:left]) for bracket, (share, _) in enumerate(shares))

    def started_per_rung(self) -> tuple[int, ...]:
        """Return how many configurations begin their climb at each rung."""
        return self.configurations_per_bracket()

    def evaluations_per_rung(self) -> tuple[int, ...]:
        """Return how many evaluations each rung sees, unless more fail or diverge than would be eliminated."""
        counts = [0] * len(self.ladder.rungs)
        for bracket in self.brackets:
            for rung, quota in enumerate(bracket.quotas, start=bracket.first_rung):
                counts[rung] += quota
        return tuple(counts)

    def _divide(self) -> tuple[Bracket, ...]:
        sizes = self.configurations_per_bracket()
        bounds = pairwise(accumulate(sizes, initial=0))
        num_rungs = len(self.ladder.rungs)
        return tuple(
            Bracket(
                numbers=range(start, stop),
                first_rung=rung,
                quotas=divided(stop - start, num_rungs - rung, self.reduction_factor),
            )
            for rung, (start, stop) in enumerate(bounds)
        )

    def next_requests(self, history: History, *, capacity: int) -> list[Request]:
        """See ``Search``."""
        requests: list[Request] = []
        for bracket in self.brackets:
            if len(requests) == capacity:
                break
            requests += bracket.next_requests(history, capacity=capacity - len(requests))
        return requests

    def eliminated(self, history: History) -> list[int]:
        """See ``Search``."""
        return sorted(number for bracket in self.brackets for number in bracket.eliminated(history))

    def _weights(self) -> tuple[int, ...]:
        num_rungs = len(self.ladder.rungs)
        # -(-a // b) is a / b rounded up, in whole numbers.
        return tuple(
            -(-num_rungs * self.reduction_factor**climbs // (climbs + 1)) for climbs in reversed(range(num_rungs))
        )
