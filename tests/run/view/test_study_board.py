"""What is said of a study that others work on."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

from rich.console import Console

from frostline.records import Configuration, Cost, Evaluation, Fidelity, Request, Station, Status
from frostline.run.view.study_board import StudyBoard
from frostline.search.budgets.budget import Budget
from frostline.search.budgets.budgeted import BudgetedHalving
from frostline.search.history import History
from frostline.search.ladder import Ladder
from frostline.store.sharing.presence import Presence
from frostline.store.terms import Terms
from frostline.store.watching import Sight

RUNGS = (Fidelity(trainable_layers=2, samples=100), Fidelity(trainable_layers=6, samples=400))
LADDER = Ladder.explicit([(2, 100), (6, 400)], num_layers=6, full_samples=400)
TERMS = Terms(
    task="tiny", data="", space="", rungs=RUNGS, num_layers=6, search="", is_sweep=False, sampler="random", seed=0,
    direction="minimize", sample_unit="images", expected=(4, 2),
)  # fmt: skip
GIB = 2**30


def evaluation(number: int, rung: int, score: float = 0.5, seconds: float = 10.0) -> Evaluation:
    return Evaluation(
        number=number, rung=rung, fidelity=RUNGS[rung], status=Status.FINISHED, score=score,
        cost=Cost(seconds=seconds, samples=RUNGS[rung].samples),
    )  # fmt: skip


def station(*requests: tuple[int, int], pid: int | None = 7, **changes: Any) -> Station:
    there = tuple(Request(*request) for request in requests)
    made = Station(host="node-1", pid=pid, device="cpu", requests=there, since=1000.0 if requests else None)
    return replace(made, **changes)


def worker(*stations: Station, host: str = "node-1", **changes: Any) -> Presence:
    made = Presence(host=host, boot="", pid=7, started="1", beat=0.0, stations=stations)
    return replace(made, **changes)


def sight(
    *workers: Presence, ended: Any = (), pending: Any = (), terms: Terms = TERMS, configurations: int = 4
) -> Sight:
    history = History("minimize")
    for number in range(configurations):
        history.add_configuration(Configuration(number=number, hyperparameters={"rate": 0.1}))
    for one in ended:
        history.finish(one)
    for request in pending:
        history.start(Request(*request))
    return Sight(terms=terms, history=history, workers={f"{place}": one for place, one in enumerate(workers)})


def board_of(seen: Sight, climb: Any = None) -> StudyBoard:
    board = StudyBoard("mine", climb, now=0.0)
    board.note(seen, now=0.0)
    return board


def test_each_process_has_a_row_that_says_what_it_trains() -> None:
    busy = station(*((number, 0) for number in range(8)), promised_bytes=2 * GIB, used_bytes=GIB)
    two_rungs = station((1, 0), (2, 1), pid=None, host="10.0.0.7 (a41f02)", device="cuda", promised_bytes=GIB)
    idle = station(used_bytes=GIB)
    seen = sight(worker(idle, two_rungs, busy), worker(host="b", stations=None), worker(host="c"))
    assert board_of(seen).rows(time_of_day=1065.0) == [
        ("10.0.0.7 (a41f02)", "cuda", "0, 1", "1, 2", "0:01:05", "? of 1 GiB"),
        ("node-1:7", "cpu", "0", "0, 1, 2, 3, 4, 5 and 2 more", "0:01:05", "1 GiB of 2 GiB"),
        ("node-1:7", "cpu", "", "none: it waits", "", "1 GiB"),
        ("b:7", "", "", "it does not tell", "", ""),
        ("c:7", "", "", "none: it waits", "", ""),
    ]  # fmt: skip
    # Of a clock that is behind nothing is said that is not so.
    assert board_of(sight(worker(busy))).rows(time_of_day=900.0)[0][4] == "0:00:00"


def test_what_is_claimed_and_not_trained_waits() -> None:
    seen = sight(worker(station((0, 0), (1, 0))), worker(host="b"), pending=[(0, 0), (1, 0), (2, 0)])
    assert board_of(seen).work_line() == "2 workers on 2 machines; 2 trainings under way, 1 claimed and waiting"
    assert board_of(sight()).work_line() == "nobody works on it"


def test_the_time_left_is_what_is_expected_by_all_who_train() -> None:
    ended = [evaluation(0, 0), evaluation(1, 0), evaluation(0, 1, seconds=40.0)]
    seen = sight(worker(station((2, 0)), station((1, 1))), ended=ended, pending=[(2, 0), (1, 1)])
    board = board_of(seen)
    # 60 s are done; two more of 10 s and one of 40 s by two processes take half a minute.
    assert board.time_words(0.0) == "50% done, about 0:00:30 left"
    assert board.time_words(10.0) == "67% done, about 0:00:20 left"
    # From then on it is known what they do: 10 s of training in 20.
    more = sight(
        worker(station((3, 0)), station((1, 1))), ended=[*ended, evaluation(2, 0)], pending=[(3, 0), (1, 1)]
    )
    board.note(more, now=20.0)
    assert board.time_words(20.0) == "58% done, about 0:01:40 left"
    assert board_of(sight(ended=ended)).time_words(0.0) == "", "nobody works: it does not end"


def test_a_search_is_over_when_it_asks_for_nothing_more() -> None:
    all_ended = [evaluation(number, 0, score=number) for number in range(4)]
    all_ended += [evaluation(0, 1), evaluation(1, 1)]
    assert not board_of(sight(ended=all_ended[:-1])).is_over
    assert not board_of(sight(ended=all_ended[:-1], pending=[(1, 1)])).is_over
    board = board_of(sight(ended=all_ended))
    assert board.is_over
    assert board.time_words(0.0) == "the search is over"
    assert board.work_line() == "nobody works on it: all is done"
    # Where all but one have failed nobody else climbs.
    lost = [replace(one, status=Status.FAILED, score=None, reason="it broke") for one in all_ended[1:4]]
    alone = sight(ended=[all_ended[0], *lost, all_ended[-2]])
    assert not board_of(alone).is_over
    for number in range(4):
        alone.history.eliminate(number)
    assert board_of(alone).is_over
    # Of a budget the search itself knows.
    open_terms = replace(TERMS, expected=())
    assert not board_of(sight(ended=all_ended, terms=open_terms)).is_over
    small = BudgetedHalving.usual(LADDER, Budget.of("1"), num_initial=1)
    assert board_of(sight(ended=[evaluation(0, 1)], terms=open_terms, configurations=1), small).is_over
    assert not board_of(sight(terms=open_terms, configurations=0), small).is_over
    large = BudgetedHalving.usual(LADDER, Budget.of("40"), num_initial=1)
    going = board_of(
        sight(worker(station((1, 0))), ended=[evaluation(0, 1, seconds=40.0)], terms=open_terms), large
    )
    assert not going.is_over
    assert going.time_words(0.0).startswith("3% done, about 0:26:00"), going.time_words(0.0)


def test_it_is_drawn_and_said_in_lines() -> None:
    ended = [evaluation(0, 0), evaluation(0, 1, seconds=40.0)]
    nasty = station((1, 0), host="\x1b[2Jnode", promised_bytes=GIB)
    board = board_of(sight(*[worker(nasty)] * 40, ended=ended, pending=[(1, 0)]))
    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(board.drawing(now=0.0, time_of_day=1065.0))
    shown = console.export_text()
    assert "study 'mine': task tiny" in shown
    assert "best: configuration 0, score 0.5 (lower is better), at full fidelity" in shown
    assert "and 8 more processes" in shown
    assert "\x1b" not in shown
    first, second, *_ = board.lines(now=0.0, time_of_day=1065.0)
    assert first.startswith("mine: 1/4, 1/2 evaluations at its rungs; 40 workers on ")
    assert second.endswith("node:7  cpu  rung 0  configurations 1  since 0:01:05  memory ? of 1 GiB")
