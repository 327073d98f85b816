"""Several processes on one study: who is there, what they have done, and whose turn it is to decide.

Everything lies in the study's system attributes, so that it works on every Optuna storage and on several machines, and
needs no server and no lock file. Each worker writes one attribute of its own and reads those of all.
"""

from __future__ import annotations

import logging
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from frostline.errors import StudyError
from frostline.store.sharing.news import Event, Inbox, Outbox
from frostline.store.sharing.presence import PREFIX, Presence, Watch, boot_of_machine, process_of

if TYPE_CHECKING:
    from frostline.records import Station
    from frostline.store.backends.access import Access, Attribute

logger = logging.getLogger(__name__)

_BEAT_SECONDS = 15.0
# News is told with the next turn; where that is long in coming, after this time.
_NEWS_SECONDS = 0.1
# What is trained where is told no more often than this, and with every turn.
_SHOWN_SECONDS = 2.0
# A turn takes milliseconds: a worker that wants to decide looks again soon, and then less often.
_SHORTEST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.002, 0.1
# One that waits for others' evaluations looks again after so long, and then less often.
_SHORTEST_LOOK_SECONDS, _LONGEST_LOOK_SECONDS = 0.005, 0.25
# Whoever was stopped for so long in its turn has lost it, long before others take it for dead.
_TURN_SECONDS = 60.0


class TurnLostError(Exception):
    """The process was stopped so long while it decided that others may decide by now."""


class SharedTurn:
    """The turn of a study that several processes may work on.

    Mutual exclusion without a lock in the storage: a worker writes that it wants to decide, then reads everybody. It
    decides if no other living worker wants to as well. Else the one that has wanted to for longest stays, and looks until
    the others are gone; those withdraw, and try again when they see nobody. Of two, the later reader sees the earlier
    writer, so they never both go on; it rests on writes and reads that are seen in one order, as Optuna's database
    and journal storages give it. A worker that died while deciding is passed over.
    """

    def __init__(self, access: Access, *, check: Callable[[], None] = lambda: None) -> None:
        self._access = access
        self._check = check
        self.worker = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._started, self._boot = process_of(os.getpid())[1], boot_of_machine()
        self._deciding: float | None = None
        self._turn_began = 0.0
        self._watch = Watch()
        self._presences: dict[str, Presence] = {}
        """Of the other workers that were alive when last looked."""
        self.dead: Mapping[str, Presence] = {}
        self._outbox, self._inbox = Outbox(), Inbox()
        self._gone_before: Set[str] = frozenset()
        self._has_lost_someone = False
        self._num_told = 0
        self._stations: Callable[[], Sequence[Station] | None] = lambda: None
        self._shown: Sequence[Station] | None = None
        self._shown_at = 0.0
        self._writing = threading.Lock()
        self._gone, self._bell = threading.Event(), threading.Event()
        self._say()
        threading.Thread(target=self._beat, name="frostline-heartbeat", daemon=True).start()

    @contextmanager
    def take(self) -> Iterator[None]:
        """Wait until no other living worker decides, and keep the turn for the duration of the context."""
        wanted, wait = time.time(), _SHORTEST_WAIT_SECONDS
        is_willing = not self._presences
        while True:
            if is_willing and self._deciding is None:
                self._say(deciding=wanted)
            # The turn lasts from this moment, if it is given.
            self._turn_began = time.monotonic()
            rivals = self._look()
            if not rivals and self._deciding is not None:
                break
            is_willing = not rivals or (self._deciding is not None and (wanted, self.worker) < min(rivals))
            if not is_willing and self._deciding is not None:
                self._say(deciding=None)
            if rivals:
                wait = _pause(wait, _LONGEST_WAIT_SECONDS)
        # What the dead sent last a database's server may still be about to commit. Their transactions begin with their own
        # attributes: whoever has written these after them has waited for it.
        for worker, presence in self.dead.items():
            self._access.set_attribute((PREFIX + worker, presence.record()))
        try:
            yield
        finally:
            if self._deciding is not None:
                self._say(deciding=None)

    @contextmanager
    def handing_over(self, events: Iterable[Event]) -> Iterator[Attribute]:
        """See ``Turn``. Raises: TurnLostError if this process was stopped in between, and others may decide by now."""
        if time.monotonic() - self._turn_began > _TURN_SECONDS:
            raise TurnLostError
        with self._writing:
            self._deciding = None
            for event in events:
                self._outbox.add(event)
            yield self._attribute()

    def alive(self, worker: str) -> bool:
        """See ``Turn``."""
        return worker == self.worker or worker in self._presences

    def has_died(self, worker: str) -> bool:
        """See ``Turn``."""
        return self._watch.has_died(self.dead[worker])

    def epitaph(self, worker: str) -> Attribute:
        """See ``Turn``."""
        return PREFIX + worker, None

    def in_company(self) -> bool:
        """See ``Turn``."""
        return bool(self._presences)

    def tell(self, event: Event) -> None:
        """See ``Turn``."""
        with self._writing:
            self._outbox.add(event)
        if self._presences:
            self._bell.set()

    def heard(self) -> list[Event] | None:
        """See ``Turn``."""
        has_missed = self._has_lost_someone or self._inbox.has_missed(self._presences)
        self._has_lost_someone = False
        if has_missed:
            self._inbox.know_all(self._presences)
            return None
        return self._inbox.take(self._presences)

    def wait(self) -> None:
        """See ``Turn``."""
        wait = _SHORTEST_LOOK_SECONDS
        while True:
            wait = _pause(wait, _LONGEST_LOOK_SECONDS)
            self._check()
            self._look()
            if self._has_lost_someone or not self._presences or self._inbox.has_news(self._presences):
                return

    def show(self, stations: Callable[[], Sequence[Station] | None]) -> None:
        """See ``Turn``."""
        self._stations = stations

    def leave(self) -> None:
        """Stop the heartbeat and say that this worker is gone."""
        self._gone.set()
        self._bell.set()
        with self._writing:
            self._access.set_attribute((PREFIX + self.worker, None))

    def _say(self, **changes: float | None) -> None:
        with self._writing:
            if self._gone.is_set():
                return
            if "deciding" in changes:
                self._deciding = changes["deciding"]
            self._access.set_attribute(self._attribute())

    def _attribute(self) -> Attribute:
        """Return what this worker says of itself by now. It holds the lock on writing."""
        self._outbox.forget(presence.heard.get(self.worker, 0) for presence in self._presences.values())
        self._num_told = self._outbox.num_sent
        presence = Presence(
            host=socket.gethostname(),
            boot=self._boot,
            pid=os.getpid(),
            started=self._started,
            beat=time.time(),
            deciding=self._deciding,
            sent=self._outbox.num_sent,
            news=self._outbox.pieces(),
            heard=self._inbox.heard,
            stations=self._asked_stations(),
        )
        self._shown, self._shown_at = presence.stations, time.monotonic()
        return PREFIX + self.worker, presence.record()

    def _look(self) -> list[tuple[float, str]]:
        """Read what all workers say; return since when others want to decide, or do, and who they are."""
        records = {
            key.removeprefix(PREFIX): record
            for key, record in self._access.attributes().items()
            if key.startswith(PREFIX) and key != PREFIX + self.worker
        }
        presences = {worker: Presence.parse(worker, each) for worker, each in records.items() if each is not None}
        living = {worker: each for worker, each in presences.items() if self._watch.is_alive(worker, each)}
        self.dead = {worker: each for worker, each in presences.items() if worker not in living}
        # Who is gone may have written what it did not tell; so may one that came and left between two looks.
        gone = records.keys() - living.keys()
        self._has_lost_someone |= bool(self.dead) or not gone <= self._gone_before
        self._gone_before = gone
        self._presences = living
        return [(each.deciding, worker) for worker, each in living.items() if each.deciding is not None]

    def _asked_stations(self) -> tuple[Station, ...] | None:
        # The main thread goes on meanwhile: what changes under the question is asked again a moment later.
        with suppress(Exception):
            stations = self._stations()
            return None if stations is None else tuple(stations)
        return None

    def _has_moved(self) -> bool:
        """Return whether there is something new to be seen, since it was shown a while ago."""
        if time.monotonic() - self._shown_at < _SHOWN_SECONDS:
            return False
        # Without company news is kept for the next turn, which may be long in coming; somebody may look.
        if self._num_told != self._outbox.num_sent:
            return True
        there = self._asked_stations()
        return [each.requests for each in there or ()] != [each.requests for each in self._shown or ()]

    def _beat(self) -> None:
        """Say every now and then that this worker lives, and soon after there is news, the news, and what is trained."""
        while not self._gone.is_set():
            if self._bell.wait(min(_BEAT_SECONDS, _SHOWN_SECONDS)):
                self._bell.clear()
                if self._gone.wait(_NEWS_SECONDS) or self._num_told == self._outbox.num_sent:
                    continue
            elif time.monotonic() - self._shown_at < _BEAT_SECONDS and not self._has_moved():
                continue
            try:
                self._check()
                self._say()
            except StudyError as error:
                # It is said at once; the search ends when the main thread comes to the storage.
                logger.error("%s", error)
                return
            except Exception:
                # A missed beat is no reason to stop: the main thread meets the same storage.
                logger.debug("a heartbeat failed", exc_info=True)


def _pause(seconds: float, longest: float) -> float:
    """Sleep for about so long, and return for how long to sleep next."""
    time.sleep(seconds * random.uniform(0.5, 1.5))  # noqa: S311 (keeps workers out of step, decides nothing)
    return min(1.5 * seconds, longest)
