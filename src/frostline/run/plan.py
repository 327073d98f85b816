"""What is searched: how many configurations, how they are drawn, and by which search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, get_args

from frostline.errors import OptionError
from frostline.records import Direction, Value
from frostline.search.halving import CONFIGURATIONS, SuccessiveHalving
from frostline.search.interface import Search
from frostline.search.ladder import Ladder
from frostline.search.mirror import Learning
from frostline.search.sampling import RANDOM, Draws, Sampling
from frostline.search.space import SearchSpace


class SearchFactory(Protocol):
    """Makes a search for a ladder: a class of ``frostline.search``, or a partial of one."""

    def __call__(self, *, ladder: Ladder, configurations: int) -> Search:
        """Return the search."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchPlan:
    """What a search tries: ``configurations`` in total, over all runs of its study, of which ``search`` chooses.

    They are ``initial`` first, then what ``sampling`` draws. Every random stream follows from ``seed``. ``direction`` and
    ``sample_unit`` are those of a training function: by default a score is to fall, after so many "samples". A task says
    both itself.
    Raises: OptionError if there is no such direction.
    """

    configurations: int = CONFIGURATIONS
    search: SearchFactory = SuccessiveHalving
    sampling: Sampling = RANDOM
    initial: Sequence[Mapping[str, Value]] = ()
    seed: int = 0
    direction: Direction | None = None
    sample_unit: str | None = None

    def __post_init__(self) -> None:
        if self.direction is not None and self.direction not in get_args(Direction):
            raise OptionError(
                f"direction is {self.direction!r}, but must be one of {', '.join(get_args(Direction))}."
            )

    @property
    def learns(self) -> bool:
        """Whether configurations are drawn by what was evaluated before."""
        return self.sampling.learning not in (Learning.NOTHING, Learning.SEQUENCE)

    def draws(self, space: SearchSpace, direction: Direction) -> Draws:
        """Return the configurations that are drawn from ``space``."""
        return Draws(
            space=space,
            sampling=self.sampling,
            root_seed=self.seed,
            direction=direction,
            initial=tuple(self.initial),
        )
