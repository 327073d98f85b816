"""What is seen of a study that others work on: what runs where, what waits, and when it will end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Column, Table
from rich.text import Text

from frostline.inputs.printable import printable
from frostline.run.outcome.ending import has_ended, summary_of
from frostline.run.outcome.sentences import best_words
from frostline.run.outcome.summary import best_evaluation
from frostline.run.view.board import clock
from frostline.run.view.drawing_board import rung_table
from frostline.run.view.pace import Pace, Work, work_of
from frostline.sizes import format_size
from frostline.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from frostline.records import Request, Station
    from frostline.run.outcome.summary import Summary
    from frostline.search.interface import Climb
    from frostline.store.sharing.presence import Presence
    from frostline.store.watching import Sight

HEADER = ("process", "device", "rung", "configurations", "since", "memory")

# Of the configurations that one process trains, and of the processes, no more are shown.
_MOST_NUMBERS, _MOST_ROWS = 6, 32

_NONE = "none: it waits"


class StudyBoard:
    """The state of a study that is looked at; ``now`` is a monotonic clock's, ``time_of_day`` in seconds since 1970."""

    def __init__(self, name: str, climb: Climb | None, *, now: float) -> None:
        self._name = name
        self._climb = climb
        """The search, where the study says how it is made: then it is known how much is left."""
        self._pace = Pace(now)
        self._num_ended = -1
        self.summary: Summary | None = None
        self._sight: Sight | None = None

    def note(self, sight: Sight, *, now: float) -> None:
        """Take down how the study looks ``now``."""
        self._sight = sight
        # Whoever trains takes a second of training a second, until it is known what they do.
        self._pace.usual_rate = float(max(1, len(self._busy)))
        if sight.history.num_evaluations != self._num_ended:
            self._num_ended = sight.history.num_evaluations
            self.summary = summary_of(sight.history, sight.terms)
            self._pace.note(self._work(self.summary), now)

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to do, as far as the study tells how its search is made, or how much it expects."""
        sight = self._sight
        if sight is None or sight.history.pending or self.summary is None:
            return False
        if self._climb is not None:
            return not self._climb.next_requests(sight.history, capacity=1)
        return has_ended(sight.history, sight.terms) is True

    def rows(self, *, time_of_day: float) -> list[tuple[str, ...]]:
        """Return a row for each process that works on the study, as ``HEADER`` says; those that train first."""
        assert self._sight is not None
        rows = [row for presence in self._sight.workers.values() for row in _rows_of(presence, time_of_day)]
        return sorted(rows, key=lambda row: row[2] == "")

    def work_line(self) -> str:
        """Return who works, what is trained and what waits, in one line."""
        assert self._sight is not None
        sight = self._sight
        if not sight.workers:
            return "nobody works on it" + (": all is done" if self.is_over else "")
        training = sum(len(station.requests) for station in self._busy)
        num_pending = len(sight.history.pending)
        waiting = max(0, num_pending - training)
        hosts = len(
            {presence.host for presence in sight.workers.values()} | {station.host for station in self._busy}
        )
        return (
            f"{counted(len(sight.workers), 'worker')} on {counted(hosts, 'machine')}; "
            f"{counted(max(training, 0), 'training')} under way, {waiting} claimed and waiting"
        )

    def time_words(self, now: float) -> str:
        """Return how much is done and when it will end, "" while nothing tells."""
        if self.is_over:
            return "the search is over"
        share, left = self._pace.share(now), self._pace.left(now)
        if share is None or left is None or self._sight is None or not self._sight.workers:
            return ""
        return f"{share:.0%} done, about {clock(left)} left"

    def lines(self, *, now: float, time_of_day: float) -> Iterator[str]:
        """Yield it as lines of plain text: where the search is, and a line for each process."""
        assert self._sight is not None
        done = ", ".join(
            f"{rung.ended}" if rung.expected is None else f"{rung.ended}/{rung.expected}"
            for rung in (self.summary.rungs if self.summary else ())
        )
        parts = (
            f"{self._name}: {done} evaluations at its rungs",
            self.work_line(),
            self.time_words(now),
            self._best(),
        )
        yield "; ".join(part for part in parts if part)
        for row in self.rows(time_of_day=time_of_day)[:_MOST_ROWS]:
            yield "  " + "  ".join(
                f"{heading} {cell}" if heading in ("rung", "since", "memory", "configurations") else cell
                for heading, cell in zip(HEADER, row, strict=True)
                if cell
            )

    def drawing(self, *, now: float, time_of_day: float) -> Group:
        """Return it as it is drawn on a terminal."""
        assert self._sight is not None
        assert self.summary is not None
        terms = self._sight.terms
        where = Table(*(Column(_text(heading)) for heading in HEADER), box=None)
        rows = self.rows(time_of_day=time_of_day)
        for row in rows[:_MOST_ROWS]:
            where.add_row(*map(_text, row))
        more = [_text(f"and {len(rows) - _MOST_ROWS} more processes")] if len(rows) > _MOST_ROWS else []
        below = [_text(line) for line in (self._best(), self.work_line(), self.time_words(now)) if line]
        return Group(
            _text(f"study {self._name!r}: task {terms.task}"),
            rung_table(self.summary, terms.sample_unit, terms.metric),
            *below,
            *([where] if rows else []),
            *more,
        )

    def _best(self) -> str:
        assert self._sight is not None
        best, terms = best_evaluation(self._sight.history), self._sight.terms
        if best is None:
            return ""
        return best_words(best, terms.direction, metric=terms.metric, num_rungs=len(terms.rungs))

    @property
    def _busy(self) -> list[Station]:
        """The processes that train."""
        presences = self._sight.workers.values() if self._sight else ()
        return [station for presence in presences for station in presence.stations or () if station.requests]

    def _work(self, summary: Summary) -> Work:
        assert self._sight is not None
        if self._climb is not None:
            return work_of(self._climb, self._sight.history, summary)
        left = summary.seconds_left
        return Work(done=summary.seconds, total=None if left is None else summary.seconds + left)


def _rows_of(presence: Presence, time_of_day: float) -> Iterator[tuple[str, ...]]:
    if not presence.stations:
        # An executor of one's own need not tell; one of ours has no process yet, or none any more.
        does = "it does not tell" if presence.stations is None else _NONE
        yield f"{presence.host}:{presence.pid}", "", "", does, "", ""
    for station in presence.stations or ():
        process = station.host if station.pid is None else f"{station.host}:{station.pid}"
        if not station.requests or station.since is None:
            yield process, station.device, "", _NONE, "", _memory(station)
            continue
        rungs = sorted({request.rung for request in station.requests})
        since = clock(max(0.0, time_of_day - station.since))
        yield process, station.device, _joined(rungs), _numbers(station.requests), since, _memory(station)


def _memory(station: Station) -> str:
    """Return what a process takes of what its trainings may take, "" where neither is known."""
    used, promised = station.used_bytes, station.promised_bytes
    if promised is None:
        return "" if used is None else format_size(used)
    return f"{'?' if used is None else format_size(used)} of {format_size(promised)}"


def _numbers(requests: Sequence[Request]) -> str:
    numbers = sorted({request.number for request in requests})
    more = len(numbers) - _MOST_NUMBERS
    return _joined(numbers[:_MOST_NUMBERS]) + (f" and {more} more" if more > 0 else "")


def _joined(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _text(text: str) -> Text:
    """Return ``text`` as it is: in names of others brackets are no markup, and nothing moves the cursor."""
    return Text(printable(text))
