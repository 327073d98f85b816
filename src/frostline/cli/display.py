"""A search on a terminal: a live table; plain lines elsewhere. Figures come from ``frostline.run.summary``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.table import Column, Table
from rich.text import Text

from frostline.inputs.printable import printable
from frostline.records import Configuration, Evaluation, Fidelity, Progress, Status
from frostline.run.loop import Observer
from frostline.run.sentences import rung_rows
from frostline.run.summary import Summary, summarise
from frostline.search.history import History
from frostline.wording import duration

# Summing up reads the whole history: with thousands of configurations that must not happen after each.
_REFRESH_SECONDS = 0.5


class SearchDisplay(Observer):
    """Shows a search while it runs. Use it as a context manager."""

    def __init__(
        self, console: Console, *, rungs: Sequence[Fidelity], expected: Sequence[int], sample_unit: str
    ) -> None:
        self._console = console
        self._rungs = rungs
        self._expected = expected
        self._sample_unit = sample_unit
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._shown = 0.0
        self._summary: Summary | None = None
        # By worker: several processes may train side by side.
        self._training: dict[int, str] = {}
        self._engines: dict[int, str] = {}

    def __enter__(self) -> SearchDisplay:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def ended(self, evaluation: Evaluation, history: History) -> None:
        """Show ``evaluation``, the latest of ``history``."""
        if self._live is None:
            self._print(evaluation)
            return
        if evaluation.status is not Status.FINISHED:
            self._print(evaluation)
        if time.monotonic() - self._shown < _REFRESH_SECONDS:
            return
        self._summary = summarise(history, self._rungs, self._expected)
        self._show()

    def progressed(self, progress: Progress) -> None:
        """Show how far the configurations are that are being trained together."""
        line = progress_line(progress, self._sample_unit)
        self._training[progress.worker] = line
        if self._live is None:
            if progress.samples == progress.started or progress.engine != self._engines.get(progress.worker):
                self._print_line(line)
            self._engines[progress.worker] = progress.engine
        elif time.monotonic() - self._shown >= _REFRESH_SECONDS:
            self._show()

    def say(self, sentence: str) -> None:
        """Print a sentence above the table, or between the lines."""
        self._print_line(sentence)

    def _show(self) -> None:
        assert self._live is not None
        parts: list[Table | Text] = []
        if self._summary is not None:
            left = self._summary.seconds_left
            note = "" if left is None else f"about {duration(left)} left"
            parts = [rung_table(self._summary, self._sample_unit), Text(note)]
        self._live.update(Group(*parts, *map(Text, self._training.values())), refresh=True)
        self._shown = time.monotonic()

    def _print(self, evaluation: Evaluation) -> None:
        self._print_line(evaluation_line(evaluation, self._sample_unit))

    def _print_line(self, line: str) -> None:
        self._console.print(printable(line), soft_wrap=True, markup=False, highlight=False)


def evaluation_line(evaluation: Evaluation, sample_unit: str) -> str:
    """Return one line about an evaluation that ended."""
    fidelity = evaluation.fidelity
    return (
        f"rung {evaluation.rung}  configuration {evaluation.number}  "
        f"{fidelity.trainable_layers} layers  {fidelity.samples:,} {sample_unit}  {evaluation.cost.seconds:.1f} s  "
        f"{outcome(evaluation)}"
    )


def progress_line(progress: Progress, sample_unit: str) -> str:
    """Return one line about configurations that are being trained together, or about the only one there is memory for."""
    share = progress.samples / progress.budget
    who = "1 configuration" if progress.members == 1 else f"{progress.members} configurations together"
    return (
        f"rung {progress.rung}  {who}  engine {progress.engine}  {share:.0%} of {progress.budget:,} {sample_unit}"
    )


def outcome(evaluation: Evaluation) -> str:
    """Return how an evaluation ended: its score, or why it has none."""
    if evaluation.score is not None:
        return f"score {evaluation.score:.5g}"
    return f"{evaluation.status}: {evaluation.reason}"


def rung_table(summary: Summary, sample_unit: str) -> Table:
    """Return the table of the rungs: what they train, what is done, the best score and the seconds."""
    header, *rows = rung_rows(summary, sample_unit)
    table = Table(*(Column(_cell(heading), justify="right") for heading in header), box=None)
    for row in rows:
        table.add_row(*map(_cell, row))
    return table


def configuration_table(configuration: Configuration) -> Table:
    """Return the table of a configuration's hyperparameters."""
    table = Table(box=None, show_header=False)
    for name, value in configuration.items():
        table.add_row(_cell(name), _cell(f"{value:.5g}" if isinstance(value, float) else f"{value}"))
    return table


def _cell(text: str) -> Text:
    """Return ``text`` as it is: in names and values of others brackets are no markup, and nothing moves the cursor."""
    return Text(printable(text))
