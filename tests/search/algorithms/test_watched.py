"""Watched halving: plain successive halving while rungs agree; a rung that disagrees with the next one is skipped."""

from __future__ import annotations

from functools import partial
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frostline.errors import LadderError
from frostline.records import Evaluation, Request, Status
from frostline.search.algorithms.halving import SuccessiveHalving
from frostline.search.algorithms.watched import WatchedHalving
from frostline.search.history import History
from tests.search.simulation import LADDER, Simulation, drawn, ended

SEEDS = st.integers(0, 2**32)


def agreeing(request: Request) -> float:
    return float(request.number * 7 % 27)


def misled(request: Request) -> float:
    """The lowest rung ranks the other way round."""
    order = request.number * 7 % 27
    return float(-order if request.rung == 0 else order)


def watched(least: float = 0.0) -> WatchedHalving:
    return WatchedHalving(ladder=LADDER, configurations=27, least_agreement=(least, -1.0))


def evaluated(history) -> list[int]:
    return [len([e for e in history.evaluations() if e.rung == rung]) for rung in range(3)]


def test_while_rungs_agree_it_is_successive_halving() -> None:
    plain = Simulation(
        search=SuccessiveHalving(ladder=LADDER, configurations=27), outcome=agreeing, prunes=True
    ).run()
    history = Simulation(search=watched(), outcome=agreeing, prunes=True).run()
    assert evaluated(history) == evaluated(plain) == [27, 9, 3]
    assert {e.request for e in history.evaluations()} == {e.request for e in plain.evaluations()}
    assert watched().skipped(history) == ()
    assert history.eliminated == plain.eliminated


def test_a_rung_that_disagrees_with_the_next_is_skipped() -> None:
    history = Simulation(search=watched(), outcome=misled, workers=4, prunes=True).run()
    assert evaluated(history) == [27, 27, 9]
    assert watched().skipped(history) == (0,)
    assert history.evaluation(history.rung(2).ranking[0], 2).score == 0.0
    unwatched = Simulation(search=SuccessiveHalving(ladder=LADDER, configurations=27), outcome=misled).run()
    assert unwatched.evaluation(unwatched.rung(2).ranking[0], 2).score > 10


def test_rungs_with_fewer_than_five_survivors_are_not_judged() -> None:
    search = WatchedHalving(ladder=LADDER, configurations=12, least_agreement=(0.9, 0.9))
    history = Simulation(search=search, outcome=misled).run()
    assert evaluated(history) == [12, 4, 1]


def noisy(request: Request, *, seed: int, faults: float) -> float | Status:
    random = Random(f"{seed} {request}")
    return random.choice([Status.DIVERGED, Status.FAILED]) if random.random() < faults else random.random()


@given(
    seed=SEEDS,
    order=SEEDS,
    workers=st.integers(1, 8),
    faults=st.sampled_from([0.0, 0.2, 0.9]),
    deaths=st.sampled_from([0.0, 0.2]),
)
def test_what_it_asks_for_depends_on_neither_order_nor_deaths_and_it_ends(
    seed: int, order: int, workers: int, faults: float, deaths: float
) -> None:
    outcome = partial(noisy, seed=seed, faults=faults)
    history = Simulation(
        search=watched(0.3), outcome=outcome, workers=workers, seed=order, deaths=deaths, prunes=True
    ).run()
    alone = Simulation(search=watched(0.3), outcome=outcome).run()
    assert {e.request for e in history.evaluations()} == {e.request for e in alone.evaluations()}
    assert watched(0.3).skipped(history) == watched(0.3).skipped(alone)
    # Every configuration is over: eliminated, or evaluated at the top.
    assert all(n in history.eliminated or history.evaluation(n, 2) is not None for n in range(27))


def test_one_least_agreement_is_needed_for_each_rung_but_the_last() -> None:
    with pytest.raises(LadderError, match="1 least agreements were given for 3 rungs"):
        WatchedHalving(ladder=LADDER, configurations=27, least_agreement=(0.5,))


def test_while_a_rung_is_open_only_what_changed_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    search = WatchedHalving(ladder=LADDER, configurations=2000, least_agreement=(0.0, -1.0))
    history = History("minimize")
    for number in range(1000):
        history.add_configuration(drawn(number))
        history.finish(ended(Request(number, 0), float(number)))
    num_looks = 0
    look = History.evaluation

    def counted(self: History, number: int, rung: int) -> Evaluation | None:
        nonlocal num_looks
        num_looks += 1
        return look(self, number, rung)

    monkeypatch.setattr(History, "evaluation", counted)
    search.next_requests(history, capacity=1)
    search.eliminated(history)
    assert num_looks < 10
