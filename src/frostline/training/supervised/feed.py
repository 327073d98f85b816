"""A data set as a row of batches, fetched here when they are needed, or ahead of that by processes of their own."""

from __future__ import annotations

import pickle
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from frostline.errors import TaskError
from frostline.seeding import derive_seed
from frostline.training.machine.randomness import seeded_for_data
from frostline.training.supervised.batch_order import Place, ordered_places, shuffled_places
from frostline.training.supervised.data import (
    Collate,
    Example,
    counted,
    fetch_examples,
    lies_in_memory,
    num_examples,
)

# What users define in their scripts cannot always be sent to a process that begins anew, as those of Python 3.14 would here.
_START_METHOD = "fork" if sys.platform == "linux" else None

# Seconds of fetching after which processes are started: a few times what that takes, so that a look at some batches and data
# that are there at once start none, and whatever takes long has lost little.
_WORTH_STARTING = 0.25

Augment = Callable[[Any, torch.Generator], Any]
"""Makes other inputs of a batch's inputs, by a generator."""


@dataclass(frozen=True, kw_only=True)
class Feed:
    """The batches of a data set. A batch is a function of the seed and of its place, whoever fetches it, and when.

    Data sets may draw from torch's, NumPy's and Python's global generators, which are seeded for each batch and put back
    after it. With ``num_workers`` above 0 as many processes fetch ahead (``torch.utils.data.DataLoader``), once fetching has
    taken a quarter of a second and as long as batches are asked for.
    """

    dataset: Dataset[Any]
    collate_fn: Collate | None = None
    augment: Augment | None = None
    num_workers: int = 0

    def shuffled(self, *, batch_size: int, seed: int, skip_examples: int = 0) -> Iterator[Example]:
        """Yield batches without end, from after ``skip_examples``, in the order of ``shuffled_places``."""
        places = shuffled_places(
            num_examples(self.dataset), batch_size=batch_size, seed=seed, skip_examples=skip_examples
        )
        return self._fetched(places, seed)

    def ordered(self, *, batch_size: int, seed: int = 0) -> Iterator[Example]:
        """Yield all examples once, in their order; the last batch may be smaller."""
        return self._fetched(ordered_places(num_examples(self.dataset), batch_size=batch_size), seed)

    def fetch(self, place: Place, *, seed: int) -> Example:
        """Return the batch at ``place``."""
        position, indices = place
        if self.augment is None and self.collate_fn is None and lies_in_memory(self.dataset):
            return fetch_examples(self.dataset, indices)
        with seeded_for_data(derive_seed(seed, "examples", position)):
            inputs, targets = fetch_examples(self.dataset, indices, collate_fn=self.collate_fn)
            if self.augment is not None:
                generator = torch.Generator().manual_seed(derive_seed(seed, "augmentation", position))
                inputs = self.augment(inputs, generator)
        return counted((inputs, targets), len(indices))

    def _fetched(self, places: Iterator[Place], seed: int) -> Iterator[Example]:
        seconds = 0.0
        for place in places:
            begin = time.perf_counter()
            batch = self.fetch(place, seed=seed)
            seconds += time.perf_counter() - begin
            yield batch
            if self.num_workers > 0 and seconds >= _WORTH_STARTING:
                break
        # None start for nothing, where that was the last one.
        following = next(places, None)
        if following is not None:
            yield from self._fetched_ahead(chain([following], places), seed)

    def _fetched_ahead(self, places: Iterable[Place], seed: int) -> Iterator[Example]:
        loader = DataLoader(
            _Fetching(self, seed),
            batch_size=None,
            sampler=places,
            num_workers=self.num_workers,
            collate_fn=_as_it_is,
            multiprocessing_context=_START_METHOD,
            # It draws a seed for its workers, which is no concern of the training.
            generator=torch.Generator(),
        )
        try:
            batches: Any = iter(loader)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise TaskError(
                f"num_workers is {self.num_workers}, but the data cannot be sent to another process: define them in a "
                f"module, or use num_workers=0 ({error})."
            ) from error
        try:
            yield from batches
        finally:
            # Torch ends them when nobody holds the iterator any more, which the traceback of an error does for long.
            batches._shutdown_workers()


class _Fetching(Dataset[Example]):
    """Fetches the batches of a feed by their places."""

    def __init__(self, feed: Feed, seed: int) -> None:
        self._feed = feed
        self._seed = seed

    def __getitem__(self, place: Place) -> Example:
        return self._feed.fetch(place, seed=self._seed)


def _as_it_is(batch: Any) -> Any:
    return batch
