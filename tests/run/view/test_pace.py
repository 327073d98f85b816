"""How far a search is and when it ends, by a clock that the test sets."""

from __future__ import annotations

import pytest

from frostline.run.outcome.summary import expected_of, summarise
from frostline.run.view.pace import Pace, Work, work_of
from frostline.search.budgets.budget import Budget
from frostline.search.budgets.budgeted import BudgetedHalving
from frostline.search.ladder import Ladder
from tests.run.outcome.test_summary import EXPECTED, RUNGS, history_of

LADDER = Ladder.explicit([(1, 100), (6, 100), (6, 200)], num_layers=6, full_samples=200)


def test_time_left_counts_between_two_events() -> None:
    pace = Pace(100.0)
    assert (pace.left(105.0), pace.share(105.0), pace.elapsed(105.0)) == (None, None, 5.0)
    pace.note(Work(done=0.0, total=60.0), 105.0)
    assert pace.left(105.0) == 60.0
    pace.note(Work(done=20.0, total=60.0), 110.0)
    # Twenty seconds of training in ten: processes train side by side.
    assert pace.left(110.0) == 20.0
    assert pace.left(113.0) == 17.0
    assert pace.share(110.0) == pytest.approx(1 / 3)
    assert pace.share(115.0) == pytest.approx(0.5)
    assert pace.left(1000.0) == 0.0
    assert pace.share(1000.0) == 0.99


def test_what_was_done_before_says_nothing_of_the_pace() -> None:
    pace = Pace(0.0)
    pace.note(Work(done=100.0, total=200.0), 1.0)
    assert pace.left(1.0) == 100.0
    pace.note(Work(done=110.0, total=200.0), 20.0)
    assert pace.left(20.0) == pytest.approx(180.0)


def test_work_is_what_is_expected_or_the_budget() -> None:
    history = history_of((0, 0, 0.5, 2.0), (1, 0, 0.4, 4.0))
    summary = summarise(history, RUNGS, EXPECTED)
    search = BudgetedHalving.usual(LADDER, Budget.of(3), num_initial=1)
    assert expected_of(search) == ()
    # One's own has not ended: what a full training takes is not known.
    assert work_of(search, history, summary) == Work(done=6.0, total=None)
    timed = BudgetedHalving.usual(LADDER, Budget.of("1h"), num_initial=1)
    assert work_of(timed, history, summary) == Work(done=6.0, total=3600.0)
    history = history_of((0, 2, 0.5, 10.0), (1, 0, 0.4, 4.0))
    assert work_of(search, history, summarise(history, RUNGS, ())) == Work(done=14.0, total=30.0)
