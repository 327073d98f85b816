"""Whose turn it is to decide: what a study asks of it, and the turn of a study that nobody else can reach."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Protocol

from frostline.store.sharing.presence import PREFIX, Presence

if TYPE_CHECKING:
    from frostline.records import Station
    from frostline.store.backends.access import Attribute
    from frostline.store.sharing.news import Event


class Turn(Protocol):
    """Mutual exclusion between the workers of one study, and the news of the others."""

    worker: str
    dead: Mapping[str, Presence]
    """Those that were there and neither live nor left, until somebody buries them: writes None in place of them."""

    def take(self) -> AbstractContextManager[None]:
        """Return a context manager in which no other worker decides."""
        ...

    def handing_over(self, events: Iterable[Event]) -> AbstractContextManager[Attribute]:
        """Return a context that gives an attribute to write with what was decided: when it is there, the turn is over.

        ``events`` tell the others what was.
        """
        ...

    def alive(self, worker: str) -> bool:
        """Return whether ``worker`` is known and was alive when last looked."""
        ...

    def has_died(self, worker: str) -> bool:
        """Return whether the process of one of the ``dead`` is known to have ended without a word."""
        ...

    def epitaph(self, worker: str) -> Attribute:
        """Return the attribute that lets one of the ``dead`` be forgotten."""
        ...

    def in_company(self) -> bool:
        """Return whether another worker was alive when last looked."""
        ...

    def tell(self, event: Event) -> None:
        """Let the others know of what this worker has written."""
        ...

    def heard(self) -> list[Event] | None:
        """Return what others have told since last asked; None if something was missed, and all has to be read."""
        ...

    def wait(self) -> None:
        """Wait until there is something to hear."""
        ...

    def show(self, stations: Callable[[], Sequence[Station] | None]) -> None:
        """Let ``stations`` be asked, by another thread too, what is trained where: for whoever looks at the study."""
        ...

    def leave(self) -> None:
        """Say that this worker is gone."""
        ...


class SoleWorker:
    """The turn of a study that no other process can reach: storage in memory."""

    def __init__(self) -> None:
        self.worker = f"{socket.gethostname()}:{os.getpid()}"
        self.dead: Mapping[str, Presence] = {}

    def take(self) -> AbstractContextManager[None]:
        """Return at once: there is nobody to wait for."""
        return nullcontext()

    def handing_over(self, events: Iterable[Event]) -> AbstractContextManager[Attribute]:  # noqa: ARG002
        """Return an attribute that says nothing."""
        return nullcontext((PREFIX + self.worker, None))

    def alive(self, worker: str) -> bool:
        """Return whether ``worker`` is this one."""
        return worker == self.worker

    def has_died(self, worker: str) -> bool:  # noqa: ARG002
        """Return False: nobody is dead."""
        return False

    def epitaph(self, worker: str) -> Attribute:
        """Return an attribute that says nothing."""
        return PREFIX + worker, None

    def in_company(self) -> bool:
        """Return False."""
        return False

    def tell(self, event: Event) -> None:
        """Do nothing."""

    def heard(self) -> list[Event]:
        """Return nothing."""
        return []

    def show(self, stations: Callable[[], Sequence[Station] | None]) -> None:
        """Do nothing."""

    def wait(self) -> None:
        """Return at once."""

    def leave(self) -> None:
        """Do nothing."""
