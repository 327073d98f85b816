"""A search seen while it runs: the observer that draws what happens, and goes on drawing while nothing does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from rich.console import Console

from frostline.errors import OptionError
from frostline.inputs.whole_numbers import shown
from frostline.run.loop import Observer, Together
from frostline.run.view.board import Board
from frostline.run.view.drawing_board import board_drawing
from frostline.run.view.event_lines import evaluation_line, progress_line, scores_words, training_title
from frostline.run.view.surfaces import NotebookSurface, surface_of
from frostline.store.backends.storage import MEMORY

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from rich.console import RenderableType

    from frostline.records import Evaluation, Job, Progress
    from frostline.run.view.surfaces import Surface
    from frostline.search.history import History
    from frostline.search.interface import Search


class SearchView(Observer):
    """Shows a search while it runs, and what came of it. Use it as a context manager.

    ``title`` says what is being prepared until the search begins; ``metric`` is what a score is called. When the search is
    interrupted, ``goes_on`` follows the best so far: how to go on. ``tells_best`` says the best where it ends by itself.
    """

    def __init__(
        self,
        surface: Surface,
        *,
        title: str,
        sample_unit: str = "samples",
        metric: str | None = None,
        goes_on: str = "",
        tells_best: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._surface = surface
        self._title = title
        self._goes_on = goes_on
        self._tells_best = tells_best
        self._clock = clock
        self._board = Board(sample_unit=sample_unit, metric=metric, now=clock())
        self._comment: Callable[[History], Iterable[str]] = lambda _: ()
        self._lines: list[str] = []
        self._said_at = 0.0
        self._engines: dict[int, str | None] = {}
        self._scores: dict[int, object] = {}
        self._lock = threading.RLock()
        self._is_over = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="frostline view", daemon=True)

    def __enter__(self) -> SearchView:
        """Show what is being prepared, and from now on go on by itself."""
        self._surface.open()
        self._surface.show(self._drawing(), self._title)
        self._ticker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Say what came of it."""
        self._is_over.set()
        with self._lock:
            self._board.finish(self._clock())
            if error is None:
                self._lines += self._closing_lines()
            elif isinstance(error, KeyboardInterrupt):
                best = self._board.best_line.replace("best:", "best so far:", 1)
                self._lines += [line for line in (best, self._goes_on) if line]
            self._say()
            self._surface.close()

    def prepare(self, title: str, *, sample_unit: str = "samples", metric: str | None = None) -> None:
        """Show that something is being prepared, before a search begins or after one: what it is called then."""
        with self._lock:
            self._title = title
            self._board = Board(sample_unit=sample_unit, metric=metric, now=self._clock())
            self._surface.show(self._drawing(), title)

    def comment_by(self, comment: Callable[[History], Iterable[str]]) -> None:
        """Let ``comment`` be asked, after every evaluation, for sentences that stay."""
        self._comment = comment

    def say(self, sentence: str) -> None:
        """Show a sentence that stays."""
        with self._lock:
            self._lines.append(sentence)
            self._say_in_time()

    def began(self, search: Search, history: History) -> None:
        """See ``Observer``."""
        with self._lock:
            self._board.begin(search, history, self._clock())

    def started(self, jobs: Sequence[Job]) -> None:
        """See ``Observer``."""
        with self._lock:
            self._board.start(jobs, self._clock())
            self._lines += self._board.silences(jobs)
            self._say_in_time()

    def ended(self, evaluation: Evaluation, history: History) -> None:
        """See ``Observer``."""
        with self._lock:
            self._board.end(evaluation, history, self._clock())
            self._lines.append(evaluation_line(evaluation, self._board.sample_unit, self._board.metric))
            self._lines += self._comment(history)
            self._say_in_time()

    def progressed(self, progress: Progress) -> None:
        """See ``Observer``: a population that begins, is trained otherwise or was validated has a line of its own."""
        with self._lock:
            self._board.progress(progress, self._clock())
            has_begun = progress.samples == progress.started
            # Of code of the user's own one training begins after the other, which says nothing.
            is_news = progress.engine is not None and (
                has_begun or progress.engine != self._engines.get(progress.worker)
            )
            if progress.samples < progress.budget:
                is_news = is_news or progress.scores != self._scores.get(progress.worker, {})
            self._engines[progress.worker] = progress.engine
            self._scores[progress.worker] = progress.scores
            direction = self._board.direction
            if direction is None:
                # A training outside a search: how far it is stands where a title does.
                self._title = training_title(progress, self._board.sample_unit, self._board.metric)
            elif is_news:
                scores = scores_words(progress, direction, self._board.metric)
                self._lines.append(progress_line(progress, self._board.sample_unit) + scores)
            self._say_in_time()

    def _closing_lines(self) -> list[str]:
        best = [self._board.best_line] if self._tells_best and self._board.best_line else []
        if self._board.direction is not None and self._board.num_started == 0:
            return ["nothing left to do: all that this search asks for has been evaluated.", *best]
        return best

    def _say_in_time(self) -> None:
        """Show the lines that wait, unless others were shown a moment ago: then the ticker does."""
        if self._lines and self._clock() - self._said_at >= self._surface.pause:
            self._say()

    def _say(self) -> None:
        lines, self._lines = self._lines, []
        if lines:
            self._surface.say(lines)
            self._said_at = self._clock()

    def _tick(self) -> None:
        # Whoever reads it may have gone: the search itself finds that out.
        with suppress(OSError):
            while not self._is_over.wait(self._surface.seconds):
                with self._lock:
                    if self._is_over.is_set():
                        return
                    self._say()
                    status = self._board.status_line(self._clock())
                    self._surface.show(self._drawing(), status if self._board.direction else self._title)

    def _drawing(self) -> RenderableType:
        return board_drawing(self._board, title=self._title, height=self._surface.height, now=self._clock())


@contextmanager
def observing(
    observer: Observer | None,
    *,
    what: str,
    storage: str,
    sample_unit: str,
    metric: str | None = None,
    tells_best: bool = True,
) -> Iterator[Observer]:
    """Yield ``observer``, or where there is none a view of ``what`` on stderr or in the notebook's cell.

    An observer that stands beside the view is told what the view is told.
    What is evaluated is kept in ``storage``. The rest is as in ``SearchView``.
    """
    if observer is not None and (isinstance(observer, type) or not hasattr(observer, "stands_beside_view")):
        raise OptionError(f"observer is {shown(observer)}, but must be an observer, such as frostline.SILENT.")
    if observer is not None and not observer.stands_beside_view:
        yield observer
        return
    surface = surface_of(Console(stderr=True))
    again = "cell" if isinstance(surface, NotebookSurface) else "script"
    goes_on = f"Every evaluation that ended is saved: run the {again} again to go on."
    view = SearchView(
        surface,
        title=f"preparing {what}",
        sample_unit=sample_unit,
        metric=metric,
        goes_on="The study was kept in memory alone." if storage == MEMORY else goes_on,
        tells_best=tells_best,
    )
    with view:
        yield view if observer is None else Together(view, observer)
