"""A loader of batches that are there already, in the place of an epoch's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch.utils.data import DataLoader, Dataset, Sampler


def given_batches(batches: Sequence[Any], *, length: int) -> DataLoader[Any]:
    """Return a loader whose epochs have ``length`` batches: these, again and again, across the ends of epochs."""
    sampler = _GoingOn(len(batches), length)
    return DataLoader(_Batches(batches), batch_size=None, sampler=sampler, collate_fn=_as_it_is)


class _GoingOn(Sampler[int]):
    """Begins an epoch where the last one ended."""

    def __init__(self, num_batches: int, length: int) -> None:
        self._num_batches = num_batches
        self._length = length
        self._num_drawn = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[int]:
        for _ in range(self._length):
            self._num_drawn += 1
            yield (self._num_drawn - 1) % self._num_batches


class _Batches(Dataset[Any]):
    def __init__(self, batches: Sequence[Any]) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> Any:
        return self._batches[index]


def _as_it_is(batch: Any) -> Any:
    return batch
