"""Which training begins on which device: on the smallest that holds it, the large ones keep what only they hold.

The pyramid of devices of arXiv 2504.10735, figure 6: rungs of few layers go to many small devices, full trainings to the few
large ones. A device takes one population at a time. Two rules decide, and together they leave no device idle while something
that it holds is waiting:

1. Of the free devices, the smallest that holds anything chooses first.
2. It takes what needs the most of all that it holds, and of that what has waited longest.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

Device = TypeVar("Device", bound=Hashable)
Item = TypeVar("Item", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Choice(Generic[Device, Item]):
    """A free device, and what is waiting that it may take: first what it should, then what it holds besides."""

    device: Device
    memory_bytes: int
    items: Sequence[Item]
    num_alike: int
    """How many that need as much as the first are waiting, itself included."""


class Placement(Generic[Device, Item]):
    """Devices of several sizes, and what is waiting for them. All that it does takes time by the number of sizes alone.

    ``most_items`` bounds what a device is offered at once.
    """

    def __init__(self, *, most_items: int = 64) -> None:
        self._most_items = most_items
        self._waiting: _Shelves[Item] = _Shelves()
        self._free: _Shelves[Device] = _Shelves()
        self._devices: _Shelves[Device] = _Shelves()

    @property
    def num_waiting(self) -> int:
        """How many items wait."""
        return self._waiting.num_held

    @property
    def num_free(self) -> int:
        """How many devices have nothing to do."""
        return self._free.num_held

    def num_holding(self, needed_bytes: int) -> int:
        """Return how many devices, free or busy, hold what needs so much."""
        return self._devices.count_from(needed_bytes)

    @property
    def largest_bytes(self) -> int:
        """What the largest device holds, free or busy; 0 without any."""
        return self._devices.sizes[-1] if self._devices.sizes else 0

    def add(self, device: Device, memory_bytes: int) -> None:
        """Let a device take part; it is busy until it is released."""
        self._devices.put(device, memory_bytes)

    def remove(self, device: Device) -> None:
        """Let a device take part no more, busy or free."""
        self._devices.take(device)
        if device in self._free:
            self._free.take(device)

    def release(self, device: Device) -> None:
        """Let a device that is busy be free."""
        self._free.put(device, self._devices.size_of(device))

    def wait(self, item: Item, needed_bytes: int) -> None:
        """Let an item wait for a device that holds ``needed_bytes``."""
        self._waiting.put(item, needed_bytes)

    def choose(self) -> Choice[Device, Item] | None:
        """Return the next free device and what it may take; None if no free device holds anything that is waiting."""
        for size in self._free.sizes:
            needed = self._waiting.largest_up_to(size)
            if needed is not None:
                items = islice(self._waiting.downwards(size), self._most_items)
                return Choice(self._free.first(size), size, [*items], self._waiting.count_at(needed))
        return None

    def begin(self, device: Device, items: Sequence[Item]) -> None:
        """Let a free device begin ``items``, which wait no more."""
        self._free.take(device)
        for item in items:
            self._waiting.take(item)

    def unplaceable(self) -> Iterator[Item]:
        """Yield what is waiting that no device holds, free or busy."""
        for size in reversed(self._waiting.sizes):
            if size <= self.largest_bytes:
                return
            yield from self._waiting.at(size)


class _Shelves(Generic[Item]):
    """Things on shelves by their size, the first on a shelf the first to leave it."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        """In rising order, those of which there is something."""
        # Finding the first of a plain dictionary takes longer the more have left it from the front.
        self._shelves: dict[int, OrderedDict[Item, None]] = {}
        self._size_of: dict[Item, int] = {}

    @property
    def num_held(self) -> int:
        return len(self._size_of)

    def __contains__(self, thing: Item) -> bool:
        return thing in self._size_of

    def size_of(self, thing: Item) -> int:
        return self._size_of[thing]

    def put(self, thing: Item, size: int) -> None:
        assert thing not in self._size_of, f"{thing} is there already"
        if size not in self._shelves:
            insort(self.sizes, size)
            self._shelves[size] = OrderedDict()
        self._shelves[size][thing] = None
        self._size_of[thing] = size

    def take(self, thing: Item) -> None:
        size = self._size_of.pop(thing)
        shelf = self._shelves[size]
        del shelf[thing]
        if not shelf:
            del self._shelves[size]
            self.sizes.remove(size)

    def at(self, size: int) -> Iterator[Item]:
        return iter(self._shelves[size])

    def first(self, size: int) -> Item:
        return next(self.at(size))

    def count_at(self, size: int) -> int:
        return len(self._shelves[size])

    def count_from(self, size: int) -> int:
        return sum(len(self._shelves[each]) for each in self.sizes[bisect_left(self.sizes, size) :])

    def largest_up_to(self, size: int) -> int | None:
        place = bisect_right(self.sizes, size)
        return self.sizes[place - 1] if place else None

    def downwards(self, size: int) -> Iterator[Item]:
        """Yield what is at most so large, the largest first."""
        for each in reversed(self.sizes[: bisect_right(self.sizes, size)]):
            yield from self._shelves[each]


def cut(memory_bytes: int, num_slots: int, needs: Sequence[int], *, overhead_bytes: int = 0) -> list[int]:
    """Return what each share of a node may train in, the largest first: at most ``num_slots``, each a process.

    ``needs`` are what the rungs need, in any order. Shares are equal where each holds the largest rung; else there is one
    for each rung that the node holds, and as many as are left for the smallest. None if it holds nothing.
    """
    shares: list[int] = []
    left, slots = memory_bytes, num_slots
    rising = sorted({*needs}) or [0]
    while rising and slots:
        needed = rising[-1] + overhead_bytes
        if left >= needed * slots or len(rising) == 1:
            num_equal = min(slots, left // needed) if needed else slots
            return shares + [left // max(1, num_equal) - overhead_bytes] * num_equal
        if left >= needed:
            shares.append(rising[-1])
            left, slots = left - needed, slots - 1
        rising.pop()
    return shares


def even_part(num_waiting: int, num_devices: int, *, most: Callable[[], int]) -> int:
    """Return how many alike one of the devices that hold them takes: its part, and at most what it trains together."""
    part = -(-num_waiting // max(1, num_devices))
    return part if part <= 1 else max(1, min(part, most()))
