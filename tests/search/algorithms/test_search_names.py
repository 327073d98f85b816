"""The table of searches by name is all that a name needs: in Python, and on the command line."""

from __future__ import annotations

import pytest

from frostline.cli.options.search_size import SearchSize
from frostline.errors import OptionError
from frostline.run.plan import SearchPlan
from frostline.search.algorithms.halving import SuccessiveHalving
from frostline.search.algorithms.search_names import SEARCHES, NamedSearch, search_named
from frostline.search.algorithms.sweep import Sweep
from frostline.search.ladder import Ladder

LADDER = Ladder.diagonal(num_layers=10, full_samples=1000, num_rungs=3)


class Twice(Sweep):
    """A search that is new."""


def test_a_name_in_the_table_is_known_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionError, match="there is no search 'twice': choose one of halving, hyperband"):
        SearchPlan(search="twice")
    monkeypatch.setitem(SEARCHES, "twice", NamedSearch(Twice, takes_reduction_factor=False))
    plan = SearchPlan(search="twice", configurations=3)
    assert isinstance(plan.search_on(LADDER), Twice)
    assert isinstance(SearchSize(search="twice").climb(LADDER), Twice)
    with pytest.raises(OptionError, match="--search twice eliminates nobody: leave one of them out"):
        SearchSize(search="twice", reduction_factor=2)


@pytest.mark.parametrize("name", SEARCHES)
def test_those_that_promote_are_told_how_many(name: str) -> None:
    known = SEARCHES[name]
    plain = search_named(name)(ladder=LADDER, configurations=27)
    told = search_named(name, 2)(ladder=LADDER, configurations=27)
    assert type(plain) is type(told) is known.made_by
    assert hasattr(plain, "reduction_factor") == known.takes_reduction_factor
    assert getattr(told, "reduction_factor", 2) == 2
    assert search_named("halving") is SuccessiveHalving
