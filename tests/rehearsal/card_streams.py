"""The order of the card's streams: what one has written another may use once it has waited, and memory is given on likewise.

On this card everything happens at once and in turn, so that numbers are right whatever the order. What is checked is whether
they would be on a card: every stream has a clock, which counts its operations, and knows how far it waited for the others.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tests.rehearsal.card_state import WAITS


class Stream:
    """A stream, by its clock: for each stream how many of its operations have ended when the next one here begins."""

    def __init__(self, device: Any = None, **_: Any) -> None:
        self.device = torch.device("cuda", 0)
        self.clock: dict[int, int] = {id(self): 0}

    @property
    def now(self) -> int:
        """How many operations it was given."""
        return self.clock[id(self)]

    def wait_event(self, event: Event) -> None:
        """Have what follows wait for the event."""
        assert event.clock is not None, "an event is waited for that nobody recorded"
        self.know(event.clock)

    def wait_stream(self, stream: Stream) -> None:
        """Have what follows wait for all that the other stream was given."""
        self.know(stream.clock)

    def know(self, clock: dict[int, int]) -> None:
        """Take note of what has ended."""
        for stream, time in clock.items():
            self.clock[stream] = max(self.clock.get(stream, 0), time)

    def synchronize(self) -> None:
        """Have all streams wait, as the host does."""
        STREAMS.synchronise()


class Event:
    """What a stream had been given when the event was recorded."""

    def __init__(self, **_: Any) -> None:
        self.clock: dict[int, int] | None = None

    def record(self, stream: Stream | None = None) -> None:
        """Record it."""
        self.clock = dict((stream or STREAMS.current()).clock)

    def synchronize(self) -> None:
        """Have all streams wait, as the host does."""
        STREAMS.synchronise()

    def elapsed_time(self, _: Any) -> float:
        """Return a time that says nothing."""
        return 1.0


@dataclass(slots=True)
class _Place:
    """A storage: the stream it was taken on, who wrote into it last, and when each stream used it last."""

    home: Stream
    writer: Stream
    written: int
    used: dict[int, int] = field(default_factory=dict)
    recorded: set[int] = field(default_factory=set)


class Streams:
    """All streams of the card, and what they have done to its memory."""

    def __init__(self) -> None:
        self.main = Stream()
        self._all = [self.main]
        self._local = threading.local()
        self._places: dict[int, _Place] = {}
        self._alive: dict[int, Any] = {}
        self.faults: list[str] = []
        """What memory was given on too early; it cannot be raised where it is seen."""

    def current(self) -> Stream:
        """Return the present stream of this thread; autograd's threads have that of the main one."""
        return getattr(self._local, "stream", self.main)

    @contextmanager
    def on(self, stream: Stream) -> Iterator[None]:
        """Give operations to ``stream``."""
        if all(each is not stream for each in self._all):
            self._all.append(stream)
        is_main = threading.current_thread() is threading.main_thread()
        before = self.main if is_main else getattr(self._local, "stream", None)
        if is_main:
            self.main = stream
        else:
            self._local.stream = stream
        try:
            yield
        finally:
            if is_main:
                self.main = before
            elif before is None:
                del self._local.stream
            else:
                self._local.stream = before

    def synchronise(self) -> None:
        """Have whatever follows wait for whatever was given to any stream."""
        for stream in self._all:
            for other in self._all:
                stream.know({id(other): other.now})

    def took(self, storage: torch.UntypedStorage) -> None:
        """Take note of new memory."""
        identity, home = storage._cdata, self.current()
        place = self._places[identity] = _Place(home, home, home.now)

        def let_go(_: object) -> None:
            del self._alive[identity], self._places[identity]
            for stream, time in place.used.items():
                if stream not in place.recorded and place.home.clock.get(stream, 0) < time:
                    self.faults.append("memory is given on while another stream may still use it: record_stream")

        self._alive[identity] = weakref.ref(storage, let_go)

    def ran(self, read: Iterable[Tensor], written: Iterable[Tensor]) -> None:
        """Take note of an operation.

        Raises: RuntimeError if it uses what another stream has written and this one has not waited for.
        """
        if WAITS.is_capturing:
            return  # nothing runs
        stream = self.current()
        stream.clock[id(stream)] += 1
        for tensor in read:
            place = self._places.get(tensor.untyped_storage()._cdata)
            if place is None:
                continue
            if stream.clock.get(id(place.writer), 0) < place.written:
                raise RuntimeError("memory is used on a stream that has not waited for the one that wrote it")
            place.used[id(stream)] = stream.now
        for tensor in written:
            place = self._places.get(tensor.untyped_storage()._cdata)
            if place is not None:
                place.writer, place.written = stream, stream.now

    def record(self, tensor: Tensor, stream: Stream) -> None:
        """Have memory be given on only after what ``stream`` was given by then."""
        place = self._places.get(tensor.untyped_storage()._cdata)
        if place is not None:
            place.recorded.add(id(stream))


STREAMS = Streams()
