"""The blocks in which CUDA's caching allocator hands out memory, reckoned without a card.

Source: c10/cuda/CUDACachingAllocator.cpp of torch, with its default settings, and torch's notes on CUDA semantics.
"""

from __future__ import annotations

from dataclasses import dataclass

_SMALLEST_BLOCK = 512
_LARGEST_SMALL = 2**20
"""Blocks up to this come from segments of their own."""
_SMALL_SEGMENT = 2 * 2**20
_LARGE_SEGMENT = 20 * 2**20
_LEAST_OWN_SEGMENT = 10 * 2**20
"""From here on a request gets a segment for itself, in steps of the next number."""
_STEP = 2 * 2**20


@dataclass(slots=True, eq=False)
class Block:
    """A piece of a segment. Units: bytes."""

    size: int
    is_small: bool
    before: Block | None = None
    after: Block | None = None
    is_free: bool = True


class CachingAllocator:
    """Hands out blocks of segments, the smallest free one that is large enough, and never gives a segment back.

    Units: ``allocated`` and ``reserved`` are bytes: in blocks that are taken, and in segments; ``peak`` is the highest
    ``allocated``. A real one gives segments back before it fails: ``reserved`` is what it takes if there is room.
    """

    def __init__(self) -> None:
        self.allocated = self.peak = self.reserved = 0
        self._free: list[Block] = []

    def take(self, num_bytes: int) -> Block | None:
        """Return a block for ``num_bytes``; None for nothing."""
        if num_bytes == 0:
            return None
        size = -(-num_bytes // _SMALLEST_BLOCK) * _SMALLEST_BLOCK
        is_small = size <= _LARGEST_SMALL
        fitting = [block for block in self._free if block.is_small is is_small and block.size >= size]
        block = min(fitting, key=lambda each: each.size) if fitting else self._segment(size, is_small=is_small)
        if fitting:
            self._free.remove(block)
        self._split(block, size)
        block.is_free = False
        self.allocated += block.size
        self.peak = max(self.peak, self.allocated)
        return block

    def give_back(self, block: Block | None) -> None:
        """Take a block back, and merge it with its free neighbours."""
        if block is None:
            return
        self.allocated -= block.size
        block.is_free = True
        if block.after is not None and block.after.is_free:
            self._merge(block, block.after)
        if block.before is not None and block.before.is_free:
            before = block.before
            self._merge(before, block)
            return
        self._free.append(block)

    def _segment(self, size: int, *, is_small: bool) -> Block:
        if is_small:
            length = _SMALL_SEGMENT
        elif size < _LEAST_OWN_SEGMENT:
            length = _LARGE_SEGMENT
        else:
            length = -(-size // _STEP) * _STEP
        self.reserved += length
        return Block(size=length, is_small=is_small)

    def _split(self, block: Block, size: int) -> None:
        """Leave the rest of a block free, if it is worth it."""
        rest = block.size - size
        if rest < _SMALLEST_BLOCK if block.is_small else rest <= _LARGEST_SMALL:
            return
        left = Block(size=rest, is_small=block.is_small, before=block, after=block.after)
        if block.after is not None:
            block.after.before = left
        block.after, block.size = left, size
        self._free.append(left)

    def _merge(self, first: Block, second: Block) -> None:
        """Make one block of two; the second is no longer one."""
        if second in self._free:
            self._free.remove(second)
        first.size += second.size
        first.after = second.after
        if second.after is not None:
            second.after.before = first
