"""What is searched: how many configurations, how they are drawn, and by which search."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypedDict, get_args

from frostline.errors import OptionError
from frostline.inputs.model_costs import check_model_cost
from frostline.inputs.whole_numbers import check_seed, shown
from frostline.records import Direction, Value
from frostline.search.algorithms.halving import CONFIGURATIONS, SuccessiveHalving
from frostline.search.algorithms.search_names import check_several_scores, sampling_named, search_named
from frostline.search.budgets.budget import Budget
from frostline.search.budgets.budgeted import BudgetedHalving
from frostline.search.interface import Search
from frostline.search.ladder import Ladder
from frostline.search.proposals.mirror import Learning
from frostline.search.proposals.sampling import RANDOM, Draws, Sampling
from frostline.search.spaces.space import SearchSpace

# What people write who come from there, and what it is here.
_OPTUNAS = {
    "n_trials": "budget",
    "timeout": "budget",
    "sampler": "sampling",
    "study_name": "study",
    "sample_unit": "unit",
}


class SearchFactory(Protocol):
    """Makes a search for a ladder: a class of ``frostline.search``, or a partial of one."""

    def __call__(self, *, ladder: Ladder, configurations: int) -> Search:
        """Return the search."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchPlan:
    """What a search tries and what it may cost, in total over all runs of its study.

    By default it costs as much as 6 full trainings: ``budget`` says another number, or a time such as "2h", and
    ``BudgetedHalving`` keeps it. With ``configurations`` it tries so many instead, whatever they cost, of which ``search``
    chooses; with a search of one's own and neither it tries 27.
    They are ``initial`` first (one, or several), then what ``sampling`` draws; under a budget the initial ones are trained
    in full. Search and sampling may be named as on the command line: "hyperband", "tpe". Every random stream
    follows from ``seed``. ``direction`` and ``sample_unit`` are those of an objective: by default a score is to fall, after
    so many "samples". A task says both itself. ``against`` is what of the trained model counts beside the score:
    "bytes", "flops" or "seconds"; None: what its study was begun with, and of a new one nothing.
    Raises: OptionError if there is no such direction, if the seed is not in 0..2^63 - 1, if it is no budget, or if there is
    one beside ``configurations`` or another search than halving; if there is no such cost, or the sampler knows none.
    """

    budget: str | float | None = None
    configurations: int | None = None
    search: SearchFactory | str = SuccessiveHalving
    sampling: Sampling | str = RANDOM
    initial: Mapping[str, Value] | Sequence[Mapping[str, Value]] = ()
    seed: int = 0
    direction: Direction | None = None
    sample_unit: str | None = None
    against: str | None = None

    def __post_init__(self) -> None:
        check_seed("seed", self.seed)
        if self.sample_unit is not None and not (isinstance(self.sample_unit, str) and self.sample_unit.strip()):
            raise OptionError(
                f"the unit of samples is {shown(self.sample_unit)}, but must be a word, such as 'images'."
            )
        if not isinstance(self.initial, Mapping):
            # They are read more than once.
            object.__setattr__(self, "initial", _configurations(self.initial))
        if self.against is not None:
            check_model_cost("against", self.against)
        if isinstance(self.search, str):
            object.__setattr__(self, "search", search_named(self.search))
        if isinstance(self.sampling, str):
            object.__setattr__(self, "sampling", sampling_named(self.sampling))
        for name, given, kind, such_as in (
            ("search", callable(self.search), "a name or a class of searches", "frostline.Hyperband"),
            ("sampling", isinstance(self.sampling, Sampling), "a name or a sampling", "frostline.sampling.TPE"),
        ):
            if not given:
                value = shown(getattr(self, name))
                raise OptionError(f"{name} is {value}, but must be {kind}, such as {such_as}.")
        if self.against is not None:
            check_several_scores(self.sampler.name)
        if self.direction is not None and self.direction not in get_args(Direction):
            raise OptionError(
                f"direction is {self.direction!r}, but must be one of {', '.join(get_args(Direction))}."
            )
        if self.budget is not None:
            Budget.of(self.budget)
            if not self.is_budgeted:
                raise OptionError(
                    f"a budget of {self.budget} goes with halving, which finds out how many configurations it pays for: "
                    f"leave out the number of configurations and the search, or the budget."
                )

    @property
    def sampler(self) -> Sampling:
        """What draws configurations."""
        assert isinstance(self.sampling, Sampling)
        return self.sampling

    @property
    def first(self) -> tuple[Mapping[str, Value], ...]:
        """The configurations that come first."""
        if isinstance(self.initial, Mapping):
            return (self.initial,) if self.initial else ()
        return tuple(self.initial)

    @property
    def learns(self) -> bool:
        """Whether configurations are drawn by what was evaluated before."""
        return self.sampler.learning not in (Learning.NOTHING, Learning.SEQUENCE)

    @property
    def is_budgeted(self) -> bool:
        """Whether the search is sized by what it may cost: if that is said, or nothing else."""
        return self.configurations is None and self.search is SuccessiveHalving

    def usual_ladder(self, *, num_layers: int, full_samples: int) -> Ladder:
        """Return the ladder that is climbed if nobody says: the sieve under a budget, else the diagonal."""
        make = Ladder.sieve if self.is_budgeted else Ladder.diagonal
        return make(num_layers=num_layers, full_samples=full_samples)

    def search_on(self, ladder: Ladder, space: SearchSpace | None = None) -> Search:
        """Return the search over ``ladder``, which within a budget tries no more than ``space`` has.

        Raises: LadderError if the configurations are too few for it.
        """
        if not self.is_budgeted:
            assert not isinstance(self.search, str)
            return self.search(
                ladder=ladder,
                configurations=CONFIGURATIONS if self.configurations is None else self.configurations,
            )
        budget = Budget.of(self.budget)
        most = self.sampler.num_points if space is None else self.sampler.num_different(space)
        return BudgetedHalving.usual(ladder, budget, num_initial=len(self.first), most=most)

    def draws(self, space: SearchSpace, direction: Direction) -> Draws:
        """Return the configurations that are drawn from ``space``."""
        return Draws(
            space=space,
            sampling=self.sampler,
            root_seed=self.seed,
            direction=direction,
            initial=self.first,
            costs_count=self.against is not None,
        )


def _configurations(given: object) -> tuple[Mapping[str, Value], ...]:
    """Return the configurations that are given one after the other. Raises: OptionError if one is no mapping."""
    each = tuple(given) if isinstance(given, Iterable) else (given,)
    for one in each:
        if not isinstance(one, Mapping):
            raise OptionError(
                f"initial holds {shown(one)}, but must be a configuration, such as {{'learning_rate': 0.001}}, or a list "
                f"of some."
            )
    return each


class PlanFields(TypedDict, total=False):
    """The fields of ``SearchPlan`` that may be given by themselves."""

    budget: str | float | None
    configurations: int | None
    search: SearchFactory | str
    sampling: Sampling | str
    initial: Mapping[str, Value] | Sequence[Mapping[str, Value]]
    seed: int
    direction: Direction | None
    against: str | None


def check_options(given: Iterable[str], *others: str) -> None:
    """Raise OptionError unless the names that are ``given`` are fields of a plan, or among the ``others``."""
    known = sorted({*PlanFields.__annotations__, *others})
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(_OPTUNAS.get(name, name), known, n=1)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise OptionError(f"there is no option {name!r}: a search takes {', '.join(known)}.{hint}")
