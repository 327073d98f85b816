"""The allocator that is reckoned follows the sizes that torch documents for CUDA's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frostline.costs.predicted.caching_allocator import Block, CachingAllocator

MIB = 2**20


@pytest.mark.parametrize(
    ("num_bytes", "allocated", "reserved"),
    [
        (0, 0, 0),
        (1, 512, 2 * MIB),
        (513, 1024, 2 * MIB),
        (MIB, MIB, 2 * MIB),
        (MIB + 1, MIB + 512, 20 * MIB),
        (10 * MIB - 512, 10 * MIB - 512, 20 * MIB),
        (10 * MIB, 10 * MIB, 10 * MIB),
        (10 * MIB + 1, 10 * MIB + 512, 12 * MIB),
        (11 * MIB + 1, 12 * MIB, 12 * MIB),
        (100 * MIB, 100 * MIB, 100 * MIB),
    ],
)
def test_one_request(num_bytes: int, allocated: int, reserved: int) -> None:
    allocator = CachingAllocator()
    allocator.take(num_bytes)
    assert (allocator.allocated, allocator.peak, allocator.reserved) == (allocated, allocated, reserved)


def test_small_requests_share_a_segment_and_large_ones_another() -> None:
    allocator = CachingAllocator()
    for size in (MIB, MIB // 2, MIB // 2, 4 * MIB, 9 * MIB):
        allocator.take(size)
    assert allocator.reserved == 22 * MIB
    allocator.take(512)
    assert allocator.reserved == 24 * MIB


def test_the_smallest_block_that_is_large_enough_is_taken_and_neighbours_become_one() -> None:
    allocator = CachingAllocator()
    left, middle, right = (allocator.take(size) for size in (6 * MIB, 6 * MIB, 8 * MIB))
    large = allocator.take(40 * MIB)
    allocator.give_back(large)
    allocator.give_back(left)
    assert allocator.take(5 * MIB) is left  # though the large one is free too
    for block in (left, right, middle):
        allocator.give_back(block)
    assert allocator.allocated == 0
    allocator.take(20 * MIB)
    assert allocator.reserved == 60 * MIB


SIZES = st.one_of(st.integers(0, 4096), st.integers(0, 3 * MIB), st.integers(0, 30 * MIB))


@given(st.lists(st.tuples(SIZES, st.integers(0, 20)), max_size=40))
def test_what_is_taken_comes_out_of_what_is_reserved(requests: list[tuple[int, int]]) -> None:
    allocator = CachingAllocator()
    held: list[Block] = []
    for size, which in requests:
        block = allocator.take(size)
        if block is not None:
            assert block.size >= size
            held.append(block)
        if which < len(held):
            allocator.give_back(held.pop(which))
        assert allocator.allocated == sum(each.size for each in held) <= allocator.peak <= allocator.reserved
    for block in held:
        allocator.give_back(block)
    # Each segment is whole again.
    assert sum(block.size for block in allocator._free) == allocator.reserved
    assert all(block.before is None and block.after is None for block in allocator._free)
