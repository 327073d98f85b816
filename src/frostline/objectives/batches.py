"""The batches of a rung: a loader, repeated as often as it takes, and gone through again up to where a training stopped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from torch.utils.data import DataLoader, RandomSampler, SequentialSampler

from frostline.errors import ObjectiveError
from frostline.objectives.generators import current_states, set_states


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where in a loader a training is: so many batches into an epoch, which began with the generators in these states."""

    epoch_states: dict[str, Any]
    num_batches: int
    states: dict[str, Any]
    """Of the generators now."""

    def contents(self) -> dict[str, Any]:
        """Return it as tensors and plain values."""
        return {"epoch_states": self.epoch_states, "num_batches": self.num_batches, "states": self.states}


class Repeated:
    """The batches of a loader, epoch after epoch, from ``place`` on."""

    def __init__(self, loader: Iterable[Any], place: Place | None) -> None:
        self._loader = loader
        self._begin_at = place
        self._epoch_states: dict[str, Any] = {}
        self._num_batches = 0

    @property
    def place(self) -> Place:
        """Where it is."""
        return Place(epoch_states=self._epoch_states, num_batches=self._num_batches, states=current_states())

    def go_on_with(self, loader: Iterable[Any]) -> None:
        """Take the batches from ``loader`` from the next epoch on. Raises: ObjectiveError if it holds other data."""
        if not _has_same_batches(loader, self._loader):
            raise ObjectiveError(
                "trial.batches was given a second loader, but a trial counts and goes on in one alone: make it once, before "
                "trial.batches, or put the data of both into one."
            )
        self._loader = loader

    def __iter__(self) -> Iterator[Any]:
        # Only the first time: whoever has left the loop and comes back begins an epoch.
        begin_at, self._begin_at = self._begin_at, None
        skipped = 0
        if begin_at is not None:
            # A loader that shuffles by torch's generator, as most do, shuffles as it did.
            set_states(begin_at.epoch_states)
            skipped = begin_at.num_batches
        while True:
            self._epoch_states, self._num_batches = current_states(), 0
            for batch in self._loader:
                self._num_batches += 1
                if self._num_batches > skipped:
                    yield batch
                elif self._num_batches == skipped and begin_at is not None:
                    set_states(begin_at.states)
            if self._num_batches == 0:
                raise ObjectiveError(
                    "the loader given to trial.batches holds no batches, or can be gone through only once: give a "
                    "DataLoader, a list, or anything else that can be iterated again."
                )
            skipped = 0


def _has_same_batches(loader: Iterable[Any], other: Iterable[Any]) -> bool:
    """Whether an epoch of one loader has the data of the other's, in as many batches: they may be made anew for each."""
    if loader is other:
        return True
    if not isinstance(loader, DataLoader) or not isinstance(other, DataLoader):
        return False
    samplers = {type(loader.sampler), type(other.sampler)}
    # One of another kind chooses examples, and one of the user's making may say batches.
    is_whole = samplers <= {SequentialSampler, RandomSampler} and loader.batch_size is not None
    sizes = [(each.batch_size, each.drop_last, len(each)) for each in (loader, other)]
    return is_whole and len(samplers) == 1 and loader.dataset is other.dataset and sizes[0] == sizes[1]
