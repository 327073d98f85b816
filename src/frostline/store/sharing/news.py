"""What a worker has written into the trials, told to the others beside: who hears it need not read the study again.

The trials alone are believed by who opens a study. News that was missed, that came in no order or is too long to be told is
made good for by reading the study.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ArgsKwargs

from frostline.store.parsing import Count

if TYPE_CHECKING:
    from frostline.store.sharing.presence import Presence

# What is not heard by so many pieces of news, or so many characters, is dropped: an attribute holds 64 KiB on MySQL.
_MOST = 256
_LONGEST = 32_000


@dataclass(frozen=True, slots=True)
class Made:
    """A trial was made for a new configuration."""

    number: Count
    values: Mapping[str, Any]
    state: Mapping[str, Any]
    """What its sampler wrote beside it."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A rung of a configuration was claimed."""

    number: Count
    rung: Count


@dataclass(frozen=True, slots=True)
class Recorded:
    """A rung of a configuration has ended, and ``record`` was written down."""

    number: Count
    rung: Count
    record: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Ended:
    """A configuration's trial was ended."""

    number: Count


@dataclass(frozen=True, slots=True)
class Retried:
    """A trial was made that takes the place of a configuration's: the study has to be read again."""

    number: Count


Event = Made | Claimed | Recorded | Ended | Retried
_KINDS: Mapping[str, type[Event]] = {
    "made": Made,
    "claimed": Claimed,
    "recorded": Recorded,
    "ended": Ended,
    "retried": Retried,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}
_PIECES: Mapping[str, TypeAdapter[Any]] = {name: TypeAdapter(kind) for name, kind in _KINDS.items()}


class Outbox:
    """The news of one worker that another may not have heard yet."""

    def __init__(self) -> None:
        self._added: deque[Event] = deque()
        self._pieces: deque[tuple[list[Any], int]] = deque()
        """What was told before, for JSON, and how long it is there."""
        self._length = 0
        self.num_sent = 0
        """How many pieces of news there were, those included that are forgotten."""

    def add(self, event: Event) -> None:
        """Tell ``event`` from now on."""
        self._added.append(event)
        self.num_sent += 1

    def forget(self, heard: Iterable[int]) -> None:
        """Let go of what all others have heard, each so many pieces."""
        num_heard = min(heard, default=self.num_sent) - (self.num_sent - len(self._pieces) - len(self._added))
        for _ in range(num_heard):
            # Where there is nobody to hear it, news is gone before it was ever written out.
            if self._pieces:
                self._forget_first()
            else:
                self._added.popleft()

    def pieces(self) -> tuple[Any, ...]:
        """Return what is told, for JSON."""
        while self._added:
            event = self._added.popleft()
            piece = [_NAMES[type(event)], *(getattr(event, name) for name in type(event).__dataclass_fields__)]
            length = len(json.dumps(piece))
            self._pieces.append((piece, length))
            self._length += length
        while len(self._pieces) > _MOST or self._length > _LONGEST:
            self._forget_first()
        return tuple(piece for piece, _ in self._pieces)

    def _forget_first(self) -> None:
        self._length -= self._pieces.popleft()[1]


class Inbox:
    """Which news of the others is known."""

    def __init__(self) -> None:
        self.heard: dict[str, int] = {}

    def has_missed(self, presences: Mapping[str, Presence]) -> bool:
        """Return whether there is news that nobody tells any more: then the study has to be read."""
        return any(
            presence.sent - len(presence.news) > self.heard.get(worker, 0)
            for worker, presence in presences.items()
        )

    def has_news(self, presences: Mapping[str, Presence]) -> bool:
        """Return whether there is news that is not known."""
        return any(presence.sent > self.heard.get(worker, 0) for worker, presence in presences.items())

    def take(self, presences: Mapping[str, Presence]) -> list[Event] | None:
        """Return what is new, that of each worker in its order; None where something is no news. From now on it is known."""
        events: list[Event | None] = []
        for worker, presence in presences.items():
            num_new = presence.sent - self.heard.get(worker, 0)
            if num_new > 0:
                events += map(_event_of, presence.news[-num_new:])
        self.know_all(presences)
        understood = [event for event in events if event is not None]
        return understood if len(understood) == len(events) else None

    def know_all(self, presences: Mapping[str, Presence]) -> None:
        """Let all that is told be known."""
        self.heard = {worker: presence.sent for worker, presence in presences.items()}


def _event_of(piece: object) -> Event | None:
    """Return what a piece of news tells; None if it tells nothing: anybody may have written it, or a later version."""
    match piece:
        case [str(kind), *fields] if kind in _PIECES:
            try:
                event: Event = _PIECES[kind].validate_python(ArgsKwargs(tuple(fields)))
            except ValidationError:
                return None
            return event
    return None
