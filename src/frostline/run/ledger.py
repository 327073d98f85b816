"""Where a search's history is written down while it runs: an Optuna study (``store.study``), or memory alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from frostline.records import Configuration, Direction, Evaluation, Request, Station
from frostline.search.history import History


class Ledger(Protocol):
    """Keeps a history, and says who may decide what comes next."""

    @property
    def history(self) -> History:
        """All that is known. It may be another object after ``deciding``."""
        ...

    def deciding(self) -> AbstractContextManager[bool]:
        """Return a context in which no other worker decides; it gives whether there is news by others.

        At its end what was claimed is written down. Raises: TurnLostError, there, if others may have decided meanwhile:
        nothing was claimed then.
        """
        ...

    @property
    def in_company(self) -> bool:
        """Whether another worker was alive when it was last decided."""
        ...

    def abandoned(self) -> tuple[Sequence[Request], bool]:
        """Return what a worker had claimed that is gone, and has not evaluated, and whether nothing has ended since.

        It comes before all that is decided anew. Where nothing has ended, the decision that it was part of can be completed.
        """
        ...

    @property
    def is_waiting(self) -> bool:
        """Whether evaluations are under way, of other workers if none is of this one."""
        ...

    def wait(self) -> None:
        """Wait until another worker has done something; called while ``is_waiting``."""
        ...

    def claim(self, configuration: Configuration, rung: int) -> None:
        """Let a rung of a configuration, the next new one or a known one, be under way; called while deciding."""
        ...

    def record(self, evaluation: Evaluation) -> None:
        """Write down an evaluation that ended."""
        ...

    def end(self, numbers: Iterable[int]) -> None:
        """Write down that configurations, each evaluated and none under way, get no further.

        Who they are may be reckoned only while ``numbers`` is read.
        """
        ...

    def show(self, stations: Callable[[], Sequence[Station] | None]) -> None:
        """Let ``stations`` be asked, now and then and by another thread, which process trains what: for whoever looks."""
        ...

    def newly_ended(self) -> list[int]:
        """Return the configurations that are never evaluated again and were not named before."""
        ...


class MemoryLedger:
    """The ledger of a search that nobody else works on and that ends with the process: for replays, and tests.

    It ends no configuration, so the search is never asked whose climb is over: nobody waits to hear of it.
    """

    def __init__(self, direction: Direction) -> None:
        self.history = History(direction)

    in_company = False

    def deciding(self) -> AbstractContextManager[bool]:
        """See ``Ledger``: there is nobody to wait for."""
        return nullcontext(False)

    def abandoned(self) -> tuple[Sequence[Request], bool]:
        """See ``Ledger``: nothing is."""
        return (), True

    @property
    def is_waiting(self) -> bool:
        """See ``Ledger``."""
        return bool(self.history.pending)

    def wait(self) -> None:
        """See ``Ledger``: there is nobody to wait for."""
        raise AssertionError("nobody else works on a search that is kept in memory")

    def claim(self, configuration: Configuration, rung: int) -> None:
        """See ``Ledger``."""
        if configuration.number == len(self.history.configurations):
            self.history.add_configuration(configuration)
        self.history.start(Request(configuration.number, rung))

    def record(self, evaluation: Evaluation) -> None:
        """See ``Ledger``."""
        self.history.finish(evaluation)

    def end(self, numbers: Iterable[int]) -> None:
        """Do nothing."""

    def show(self, stations: Callable[[], Sequence[Station] | None]) -> None:
        """Do nothing: nobody else looks."""

    def newly_ended(self) -> list[int]:
        """Return nobody."""
        return []
