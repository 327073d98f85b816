"""What is seen of a search: by its events alone, on a terminal, in a notebook and in plain text."""

from __future__ import annotations

import io
import itertools
import logging
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from optuna.distributions import FloatDistribution
from rich.console import Console

from frostline.records import Configuration, Fidelity, Job, Progress, Request
from frostline.run.loop import Observer
from frostline.run.plan import SearchPlan
from frostline.run.tuning import search_function
from frostline.run.view.board import Board
from frostline.run.view.search_view import SearchView, observing
from frostline.run.view.surfaces import NotebookSurface, PlainSurface, TerminalSurface, surface_of
from frostline.search.algorithms.halving import SuccessiveHalving
from frostline.search.algorithms.sweep import Sweep
from frostline.search.history import History
from frostline.search.ladder import Ladder
from frostline.search.spaces.space import SearchSpace
from tests.run.outcome.test_summary import history_of

LADDER = Ladder.explicit([(1, 100), (6, 100), (6, 200)], num_layers=6, full_samples=200)
SEARCH = SuccessiveHalving(ladder=LADDER, configurations=9)
SPACE = SearchSpace(distributions={"rate": FloatDistribution(1e-3, 1.0, log=True)})


class Paper:
    """A surface that keeps all it is given."""

    seconds, pause, height = 0.01, 0.0, 40

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.statuses: list[str] = []
        self.drawings: list[str] = []
        self.is_open = False

    def open(self) -> None:
        self.is_open = True

    def say(self, lines: Sequence[str]) -> None:
        self.lines += lines

    def show(self, drawing: Any, status: str) -> None:
        page = Console(file=io.StringIO(), width=120)
        page.print(drawing)
        self.drawings.append(page.file.getvalue())  # type: ignore[attr-defined]
        self.statuses.append(status)

    def close(self) -> None:
        self.is_open = False


def job(number: int, rung: int = 0) -> Job:
    configuration = Configuration(number=number, hyperparameters={"rate": 0.1})
    return Job(configuration=configuration, rung=rung, fidelity=LADDER.rungs[rung])


def progress(samples: int, *, members: int = 2, scores: dict[int, float] | None = None) -> Progress:
    return Progress(
        rung=0, members=members, engine="shared", started=0, samples=samples, budget=100, scores=scores or {}
    )


@pytest.fixture
def paper() -> Paper:
    return Paper()


def shown_next(paper: Paper) -> str:
    """What is drawn next, by itself."""
    count = len(paper.drawings)
    deadline = time.monotonic() + 10
    while len(paper.drawings) < count + 2:
        assert time.monotonic() < deadline, "nothing is drawn"
        time.sleep(0.005)
    return paper.drawings[-1]


def test_what_is_prepared_is_there_at_once_and_the_view_goes_on_by_itself(paper: Paper) -> None:
    with SearchView(paper, title="loading tiny"):
        assert "loading tiny" in paper.drawings[0]
        assert "0:00:00 gone" in shown_next(paper)
    assert not paper.is_open
    assert not [one for one in threading.enumerate() if one.name == "frostline view" and one.join(5)]


def test_a_population_is_shown_on_its_way_with_scores_and_its_line_goes_with_it(paper: Paper) -> None:
    history = History("minimize")
    # No time passes: what ends at once with another is shown too, though nothing may follow for long.
    with SearchView(paper, title="", sample_unit="images", metric="loss", clock=lambda: 0.0) as view:
        view.began(SEARCH, history)
        view.started([job(0), job(1)])
        assert "rung 0  2 trainings under way: 1 layer, 100 images" in shown_next(paper)
        view.progressed(progress(0))
        view.progressed(progress(25, scores={0: 0.7, 1: 0.4}))
        seen = shown_next(paper)
        assert "rung 0  2 trainings together  engine shared  25% of 100 images  best loss 0.4" in seen
        assert "under way" not in seen
        assert paper.lines[-1].endswith("best loss 0.4 (configuration 1)")
        view.progressed(progress(30, scores={0: 0.7, 1: 0.4}))
        assert len(paper.lines) == 2, "what is no news has no line"
        view.progressed(progress(100))
        history = history_of((0, 0, 0.5, 2.0), (1, 0, 0.4, 4.0))
        for evaluation in history.evaluations():
            view.ended(evaluation, history)
        assert "together" not in shown_next(paper)
        assert paper.lines[2:] == [
            "rung 0  configuration 0  1 layer  100 images  2.0 s  loss 0.5",
            "rung 0  configuration 1  1 layer  100 images  4.0 s  loss 0.4",
        ]
        assert "best: configuration 1, loss 0.4 (lower is better), at rung 0, the last being 2" in shown_next(
            paper
        )


def test_summing_up_a_long_history_takes_one_part_in_twenty_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = itertools.count(0.0, 0.5)
    board = Board(sample_unit="images", metric=None, now=0.0)
    monkeypatch.setattr("frostline.run.view.board.time", SimpleNamespace(perf_counter=lambda: next(busy)))
    board.begin(SEARCH, History("minimize"), 0.0)
    kept: list[Any] = []
    history = history_of(*((number, 0, 0.5, 2.0) for number in range(9)))
    for second in range(200):
        board.end(next(iter(history.evaluations())), history, float(second))
        kept.append(board.summary)
    assert len({*map(id, kept)}) == pytest.approx(1.0 / 0.5 + 200 / 20 / 0.5, abs=2)


def test_there_is_one_bar_with_a_time_left_that_counts(paper: Paper) -> None:
    now = [0.0]
    with SearchView(paper, title="", clock=lambda: now[0]) as view:
        history = History("minimize")
        view.began(SEARCH, history)
        now[0] = 10.0
        history = history_of((0, 0, 0.5, 2.0), (1, 0, 0.4, 4.0))
        for evaluation in history.evaluations():
            view.ended(evaluation, history)
        first = shown_next(paper)
        now[0] = 12.0
        second = shown_next(paper)
    assert first.count("gone, about") == 1
    assert "0:00:10 gone" in first
    assert "0:00:12 gone" in second
    left = [
        sum(60**p * int(x) for p, x in enumerate(reversed(words_left(one).split(":")))) for one in (first, second)
    ]
    assert left[0] - left[1] in (1, 2, 3)


def words_left(drawing: str) -> str:
    return drawing.split("gone, about ")[1].split()[0]


def score(configuration: Configuration, fidelity: Fidelity) -> float:
    return configuration["rate"] + 1 / fidelity.samples  # type: ignore[operator]


def searched(observer: Observer, storage: str) -> None:
    search_function(
        score, SPACE, LADDER, study="s", plan=SearchPlan(configurations=9), storage=storage, observer=observer
    )


def test_a_finished_study_says_that_nothing_is_left(paper: Paper, tmp_path: Any) -> None:
    for _ in range(2):
        with SearchView(paper, title="", tells_best=True) as view:
            searched(view, str(tmp_path / "journal.log"))
    best = paper.lines[-1]
    assert best.startswith("best: configuration ")
    assert paper.lines[-3:-1] == [
        best,
        "nothing left to do: all that this search asks for has been evaluated.",
    ]


def test_an_interrupt_leaves_the_best_so_far_and_how_to_go_on(paper: Paper) -> None:
    history = history_of((0, 0, 0.5, 2.0), (1, 0, 0.4, 4.0))

    def interrupted() -> None:
        with SearchView(paper, title="", goes_on="run it again.") as view:
            view.began(SEARCH, history)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert paper.lines == [
        "best so far: configuration 1, score 0.4 (lower is better), at rung 0, the last being 2",
        "run it again.",
    ]
    assert not paper.is_open


def test_a_rung_that_tells_nothing_is_said_when_others_climb_over_it(paper: Paper) -> None:
    history = history_of((9, 2, 0.9, 9.0), *((number, 0, 2.3 + number / 10_000, 1.0) for number in range(9)))
    with SearchView(paper, title="") as view:
        view.began(SEARCH, history)
        for number in (0, 1):
            history.start(Request(number, 1))
            view.started([job(number, rung=1)])
    said = [line for line in paper.lines if "tells nothing" in line]
    assert len(said) == 1
    assert said[0].startswith("Rung 0 tells nothing: with 1 layer on 100 samples the best of 9 ")


def test_plain_text_is_lines_alone() -> None:
    file = io.StringIO()
    console = Console(file=file)
    surface = surface_of(console)
    assert isinstance(surface, PlainSurface)
    with SearchView(surface, title="loading tiny") as view:
        searched(view, ":memory:")
        view.say("[bold]\x1b[2J")
    lines = file.getvalue().splitlines()
    assert lines[0] == "loading tiny"
    assert sum(line.startswith("rung ") for line in lines) == 13
    assert lines[-1] == r"[bold]\x1b[2J"


def test_a_terminal_keeps_the_lines_and_takes_what_was_drawn_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    terminal = Console(force_terminal=True, width=100, height=24)
    surface = surface_of(terminal)
    assert isinstance(surface, TerminalSurface)
    out = sys.stdout
    handler = logging.StreamHandler(sys.stdout)
    logging.getLogger("tests.view").addHandler(handler)
    with SearchView(surface, title="loading tiny") as view:
        searched(view, ":memory:")
        sys.stdout.write("printed by the training\n")
        assert handler.stream is not out, "records stand among the lines"
        handler.stream.write("a record\n")
    logging.getLogger("tests.view").removeHandler(handler)
    assert (sys.stdout, handler.stream) == (out, out)
    written = out.getvalue()  # type: ignore[attr-defined]
    assert written.count("rung 2  configuration ") == 1
    for line in ("printed by the training\n", "a record\n"):
        assert line in written
    assert "\x1b[?25h" in written, "the cursor is back"


def test_an_audits_many_rungs_leave_room_for_the_bar(paper: Paper) -> None:
    paper.height = 14
    cells = [(1, samples) for samples in range(5, 101, 5)] + [(6, samples) for samples in range(105, 201, 5)]
    ladder = Ladder.explicit(cells, num_layers=6, full_samples=200)
    with SearchView(paper, title="") as view:
        view.began(Sweep(ladder=ladder, configurations=3), History("minimize"))
        view.started([Job(configuration=job(0).configuration, rung=30, fidelity=ladder.rungs[30])])
        drawing = shown_next(paper)
    assert len(drawing.splitlines()) <= 14
    assert "other rungs are not shown" in drawing
    assert "rung 30  1 training under way: 6 layers, 155 samples" in drawing
    assert "gone" in drawing.splitlines()[-1]


def test_a_notebook_has_one_output_that_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs: list[str] = []
    handle = SimpleNamespace(update=outputs.append)
    module = ModuleType("IPython.display")
    module.HTML = lambda text: text  # type: ignore[attr-defined]
    module.display = lambda output, display_id: outputs.append(output) or handle  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    with SearchView(NotebookSurface(), title="loading <b>", tells_best=True) as view:
        searched(view, ":memory:")
    assert "loading &lt;b&gt;" in outputs[1]
    assert "gone" in outputs[1]
    assert outputs[-1].count("configuration ") == 14
    assert "best: configuration" in outputs[-1]
    assert "gone" not in outputs[-1], "the bar goes"


def test_where_nobody_observes_there_is_a_view_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with observing(None, what="the search of score", storage=":memory:", sample_unit="images") as observer:
        searched(observer, ":memory:")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("preparing the search of score\n")
    assert "images" in err
    assert err.splitlines()[-1].startswith("best: configuration ")
    own = Observer()
    with observing(own, what="the search of score", storage=":memory:", sample_unit="images") as observer:
        assert observer is own


def test_a_training_outside_a_search_is_shown_on_its_way(paper: Paper) -> None:
    with SearchView(paper, title="loading") as view:
        view.prepare("training", sample_unit="images")
        view.progressed(replace(progress(50, members=1, scores={0: 0.25}), budget=200))
        assert "training: 50 of 200 images  score 0.25" in shown_next(paper)
    assert paper.lines == []
