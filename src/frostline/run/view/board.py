"""What a view knows of a search that runs: its rungs, its pace, its best, and what is under way."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from frostline.run.outcome.sentences import best_words, silence_lines
from frostline.run.outcome.summary import Summary, best_evaluation, expected_of, summarise
from frostline.run.view.event_lines import progress_line, scores_words
from frostline.run.view.pace import Pace, work_of
from frostline.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.records import Direction, Evaluation, Job, Progress, Request
    from frostline.search.history import History
    from frostline.search.interface import Search

# Of what is under way no more is shown.
_MOST_LINES = 4

# Summing up takes at most so long at the beginning, and then one part in so many of the time.
_FREE_SECONDS, _PAUSES = 1.0, 20


class Board:
    """The state of one search, told by its events; ``now`` of every method is a monotonic clock's, in seconds.

    Events come from the thread that searches, and only they look at its history: it may change at any other time.
    """

    def __init__(self, *, sample_unit: str, metric: str | None, now: float) -> None:
        self.sample_unit = sample_unit
        self.metric = metric
        self.pace = Pace(now)
        self.summary: Summary | None = None
        self.best_line = ""
        """The best evaluation so far; nothing before there is a score."""
        self.num_started = 0
        """Jobs that were handed out in this run."""
        self._search: Search | None = None
        self._history: History | None = None
        self._silent_below = 0
        self._is_stale = False
        self._made_at, self._looking_seconds = now, 0.0
        self._under_way: dict[Request, Job] = {}
        self._populations: dict[int, Progress] = {}
        """By worker: several processes may train side by side."""

    @property
    def direction(self) -> Direction | None:
        """Which scores are better; None before the search begins."""
        return None if self._history is None else self._history.direction

    def begin(self, search: Search, history: History, now: float) -> None:
        """Take down what is searched, and from where it goes on."""
        self._search, self._history, self.num_started = search, history, 0
        self._under_way.clear()
        self._populations.clear()
        self._look(now)

    def start(self, jobs: Sequence[Job], now: float) -> None:
        """Take down jobs that are trained from now on."""
        self.num_started += len(jobs)
        self._under_way.update((job.request, job) for job in jobs)
        self._look_in_time(now)

    def silences(self, jobs: Sequence[Job]) -> list[str]:
        """Return, once ``jobs`` climb to a rung that nobody had climbed to, which of the rungs below tell nothing."""
        history = self._history
        if history is None or self._search is None:
            return []
        climbing = [job.rung for job in jobs if history.evaluations_of(job.configuration.number)]
        if max(climbing, default=0) <= self._silent_below:
            return []
        untold = range(self._silent_below, max(climbing))
        self._silent_below = untold.stop
        return silence_lines(history, self._search.ladder.rungs, self.sample_unit, among=untold)

    def end(self, evaluation: Evaluation, history: History, now: float) -> None:
        """Take down an evaluation that ended; what was said of its population goes with the last of it."""
        self._history, self._is_stale = history, True
        self._under_way.pop(evaluation.request, None)
        left = Counter(request.rung for request in self._under_way)
        self._populations = {
            worker: progress for worker, progress in self._populations.items() if left[progress.rung]
        }
        self._look_in_time(now)

    def progress(self, progress: Progress, now: float) -> None:
        """Take down how far a population is."""
        self._populations[progress.worker] = progress
        if progress.samples >= progress.budget or not progress.members:
            del self._populations[progress.worker]
        self._look_in_time(now)

    def finish(self, now: float) -> None:
        """Sum up at the end."""
        if self._search is not None:
            self._look(now)

    def _look_in_time(self, now: float) -> None:
        """Sum up what is known, as often as that takes little of the time: it reads the whole history."""
        if self._is_stale and self._looking_seconds <= _FREE_SECONDS + (now - self._made_at) / _PAUSES:
            self._look(now)

    def _look(self, now: float) -> None:
        assert self._search is not None
        assert self._history is not None
        begin = time.perf_counter()
        rungs = self._search.ladder.rungs
        self.summary = summarise(self._history, rungs, expected_of(self._search))
        self.pace.note(work_of(self._search, self._history, self.summary), now)
        best = best_evaluation(self._history)
        if best is not None:
            self.best_line = best_words(best, self._history.direction, metric=self.metric, num_rungs=len(rungs))
        self._is_stale = False
        self._looking_seconds += time.perf_counter() - begin

    @property
    def busy_rungs(self) -> list[int]:
        """The rungs at which something is under way."""
        return sorted({request.rung for request in self._under_way})

    @property
    def training_lines(self) -> list[str]:
        """What is under way: a line for each population, or for each rung where none says how far it is."""
        direction = self.direction
        if self._search is None or direction is None:
            return []
        told = sorted(self._populations.values(), key=lambda progress: progress.worker)
        lines = [
            progress_line(progress, self.sample_unit) + scores_words(progress, direction, self.metric)
            for progress in told
        ]
        rungs = Counter(request.rung for request in self._under_way)
        for progress in told:
            rungs.pop(progress.rung, None)
        for rung, count in sorted(rungs.items()):
            fidelity = self._search.ladder.rungs[rung]
            lines.append(
                f"rung {rung}  {counted(count, 'training')} under way: "
                f"{counted(fidelity.trainable_layers, 'layer')}, {fidelity.samples:,} {self.sample_unit}"
            )
        if len(lines) > _MOST_LINES:
            lines[_MOST_LINES - 1 :] = [f"and {len(lines) - _MOST_LINES + 1} more like these"]
        return lines or ["what comes next is being decided, or other workers are at it"]

    def time_words(self, now: float) -> str:
        """Return how long it has run and is to run, both counting."""
        left = self.pace.left(now)
        gone = f"{clock(self.pace.elapsed(now))} gone"
        if left is None:
            return gone
        return f"{gone}, about {clock(left)} left" if left >= 1 else f"{gone}, about to end"

    def status_line(self, now: float) -> str:
        """Return where the search is, in one line."""
        parts = [self.time_words(now), *self.training_lines[:1], self.best_line]
        return "; ".join(part for part in parts if part)


def clock(seconds: float) -> str:
    """Return a duration as a clock shows it: it changes every second, however long it is."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
