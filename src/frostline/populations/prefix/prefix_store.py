"""What frozen layers gave, kept for when the same examples come again: in the next epoch, validation or population."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from frostline.layers.cutting.nesting import map_tensors
from frostline.populations.prefix.example_keys import ExampleKeys
from frostline.populations.prefix.prefix_cache import PrefixCache

if TYPE_CHECKING:
    from frostline.populations.prefix.recorded_outputs import Needs, Recording, StandIns
    from frostline.populations.prefix.share import Share
    from frostline.protocols import Batch

logger = logging.getLogger(__name__)

# The rounding of a matrix product whose rows lie elsewhere, in units of the number type's precision.
_TOLERANCE = 1e3


@dataclass(frozen=True, slots=True)
class _Layout:
    """What rows of one cache have in common: where the model was cut, and the first recording, as a pattern."""

    depth: int
    needs: Needs | None
    pattern: Recording


@dataclass(kw_only=True)
class PrefixStore:
    """Keeps the outputs of one frozen prefix, example by example; training and validation apart.

    Units: bytes; 0 keeps nothing. With a ``directory`` what is kept of training lies in a file there that is gone when the
    process is. The prefix of another cut or depth takes the place of the one before, and so must be made known with
    ``belongs_to`` that of another program.
    """

    training_bytes: int
    validation_bytes: int
    directory: Path | None = None
    _owner: object = None
    _keys: ExampleKeys = field(default_factory=ExampleKeys)
    _caches: dict[bool, PrefixCache] = field(default_factory=dict)
    _layouts: dict[bool, _Layout | None] = field(default_factory=dict)

    @property
    def limit_bytes(self) -> int:
        """The memory that it may come to hold; what lies in a file takes none."""
        return self.validation_bytes + (self.training_bytes if self.directory is None else 0)

    @property
    def held_bytes(self) -> int:
        """The memory that it holds now."""
        in_memory = [self._caches.get(False), self._caches.get(True) if self.directory is None else None]
        return sum(cache.num_bytes for cache in in_memory if cache is not None)

    def give_way(self) -> int:
        """Keep nothing in memory any more; return the bytes that this leaves to others."""
        left = self.limit_bytes
        self.clear()
        self.validation_bytes = 0
        if self.directory is None:
            self.training_bytes = 0
        return left

    def belongs_to(self, owner: object) -> None:
        """Forget everything unless ``owner``, which names a prefix, is still the same."""
        if owner != self._owner:
            self.clear()
            self._layouts.clear()
            self._owner = owner

    def clear(self) -> None:
        """Forget all outputs: the prefix has become another function."""
        for cache in self._caches.values():
            cache.clear()

    def recording(self, share: Share, batch: Batch, stand_ins: StandIns) -> Recording:
        """Return what the frozen layers give on a CPU batch, computing only the examples that are not known."""
        training = share.session.model.training
        keys = self._keys.of(batch) if self._limit(training) > 0 else None
        if keys is None:
            return share.record(batch)
        layout = self._layouts.get(training)
        if layout is None or (layout.depth, layout.needs) != (share.depth, share.replay.needs):
            if training in self._layouts and layout is None:
                return share.record(batch)  # it was found that examples depend on each other
            return self._first(share, batch, keys, training)
        cache = self._caches[training]
        missing = cache.missing(keys)
        # Whole batches, while there is room: in a smaller one the same example may be rounded in another way.
        if len(missing) == len(keys) or (missing and not cache.is_full):
            recording = share.record(batch)
            cache.insert(keys, recording.kept())
            return recording
        if missing:
            return layout.pattern.with_kept(self._completed(share, batch, keys, missing, cache), stand_ins)
        device = share.session.device_plan.device
        rows = [rows.to(device, non_blocking=True) for rows in cache.fetch(keys)]
        return layout.pattern.with_kept(rows, stand_ins)

    def _limit(self, training: bool) -> int:
        return self.training_bytes if training else self.validation_bytes

    def _first(self, share: Share, batch: Batch, keys: Sequence[bytes], training: bool) -> Recording:
        """Record the first batch of a layout, and see whether its examples go through the prefix each for itself."""
        part = list(range(len(keys)))[::-2]
        alone = share.record(_rows_of(batch, part)).kept()
        recording = share.record(batch)
        kept = recording.kept()
        if not _are_rows(kept, alone, part, num_rows=len(keys)):
            logger.info("outputs of frozen layers are not kept: those of an example depend on its batch")
            self._layouts[training] = None
            return recording
        directory = self.directory if training else None
        self._caches[training] = PrefixCache(limit_bytes=self._limit(training), directory=directory)
        self._layouts[training] = _Layout(share.depth, share.replay.needs, recording.pattern())
        self._caches[training].insert(keys, kept)
        return recording

    def _completed(
        self, share: Share, batch: Batch, keys: Sequence[bytes], missing: Sequence[int], cache: PrefixCache
    ) -> list[Tensor]:
        """Return the outputs of a batch of which only the examples at ``missing`` have to be computed."""
        computed = share.record(_rows_of(batch, missing)).kept()
        lacking = set(missing)
        known = [position for position in range(len(keys)) if position not in lacking]
        kept = cache.fetch([keys[position] for position in known])
        # Where in one behind the other each example's row is. A list would be copied to a card while the host waits.
        places = torch.tensor([*missing, *known], device="cpu").argsort().to(computed[0].device, non_blocking=True)
        whole = [
            torch.cat([new, old.to(new.device, non_blocking=True)]).index_select(0, places)
            for new, old in zip(computed, kept, strict=True)
        ]
        cache.insert([keys[position] for position in missing], computed)
        return whole


def _rows_of(batch: Batch, positions: Sequence[int]) -> Batch:
    """Return the examples of a batch at ``positions``."""
    return map_tensors(lambda tensor: tensor[list(positions)], batch)


def _are_rows(whole: Sequence[Tensor], part: Sequence[Tensor], positions: Sequence[int], *, num_rows: int) -> bool:
    """Return whether outputs have one row for every example, and those of a part of a batch are rows of the whole's."""
    for tensor, rows in zip(whole, part, strict=True):
        if (
            not tensor.is_floating_point()
            or tensor.dim() == 0
            or len(tensor) != num_rows
            or len(rows) != len(positions)
        ):
            return False
        expected = tensor[list(positions)]
        tolerance = _TOLERANCE * torch.finfo(tensor.dtype).eps
        if not torch.linalg.vector_norm(rows - expected) <= tolerance * torch.linalg.vector_norm(expected):
            return False
    return bool(whole)
