"""What frozen layers gave, kept for when the same examples come again: in the next epoch, validation or population."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from frostline.layers.cutting.nesting import map_tensors, tensors
from frostline.populations.prefix.example_keys import ExampleKeys
from frostline.populations.prefix.prefix_cache import PrefixCache
from frostline.populations.prefix.rounding import is_same_but_for_rounding
from frostline.training.failures import is_out_of_memory

if TYPE_CHECKING:
    from frostline.populations.prefix.recorded_outputs import Needs, Recording, StandIns
    from frostline.populations.prefix.share import Share
    from frostline.protocols import Batch

logger = logging.getLogger(__name__)

# So many pairs of the first batch go through the prefix by themselves, to see whether examples depend on each other.
_PAIRS = 8


@dataclass(frozen=True, slots=True)
class _Layout:
    """What rows of one cache have in common: where the model was cut, and the first batch and recording, as patterns."""

    depth: int
    needs: Needs | None
    row_shapes: tuple[torch.Size, ...]
    """Of the batch: one example's tensors."""
    pattern: Recording

    def is_of(self, share: Share) -> bool:
        """Return whether what ``share`` records is cut there."""
        return (self.depth, self.needs) == (share.depth, share.replay.needs)


@dataclass(kw_only=True)
class PrefixStore:
    """Keeps the outputs of one frozen prefix, example by example; training and validation apart.

    Units: bytes; 0 keeps nothing. With a ``directory`` what is kept of training lies in a file there that is gone when the
    process is. The prefix of another cut or depth takes the place of the one before, and so must be made known with
    ``belongs_to`` that of another model, or of other batches.
    """

    training_bytes: int
    validation_bytes: int
    directory: Path | None = None
    _owners: dict[bool, object] = field(default_factory=dict)
    _keys: ExampleKeys = field(default_factory=ExampleKeys)
    _caches: dict[bool, PrefixCache] = field(default_factory=dict)
    _layouts: dict[bool, _Layout] = field(default_factory=dict)
    _in_vain: set[bool] = field(default_factory=set)
    """Of which of the two nothing is kept, since what an example gives depends on its batch."""

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

    def belongs_to(self, *, training: object, validation: object) -> None:
        """Forget what is kept of training and of validation unless what names its prefix and batches is still the same.

        Batches of another size are other batches: in these the same example may be rounded in another way.
        """
        for mode, owner in ((True, training), (False, validation)):
            if self._owners.get(mode) != owner:
                self._forget(mode)
                self._in_vain.discard(mode)
                self._owners[mode] = owner

    def clear(self) -> None:
        """Forget all outputs: the prefix has become another function."""
        for cache in self._caches.values():
            cache.clear()

    def recording(self, share: Share, batch: Batch, stand_ins: StandIns) -> Recording:
        """Return what the frozen layers give on a CPU batch, computing only the examples that are not known."""
        training = share.session.model.training
        is_kept = self._limit(training) > 0 and training not in self._in_vain
        keys = self._keys.of(batch) if is_kept else None
        if keys is None:
            return share.record(batch)
        layout = self._layouts.get(training)
        if layout is None or not layout.is_of(share):
            return self._first(share, batch, keys, training)
        cache = self._caches[training]
        missing = cache.missing(keys)
        if not missing:
            device = share.session.device_plan.device
            rows = [rows.to(device, non_blocking=True) for rows in cache.fetch(keys)]
            return layout.pattern.with_kept(rows, stand_ins)
        # Whole batches, while there is room: in a smaller one the same example may be rounded in another way.
        if cache.is_full and len(missing) < len(keys):
            computed = share.record(_rows_of(batch, missing)).kept()
            if cache.holds_such(computed):
                return layout.pattern.with_kept(_completed(computed, keys, missing, cache), stand_ins)
        recording = share.record(batch)
        if not recording.outputs:
            self._give_up(training)
            return recording
        if not cache.holds_such(recording.kept()) and layout.row_shapes == _row_shapes(batch):
            self._give_up(training)
        else:
            cache.insert(keys, recording.kept())
        return recording

    def _limit(self, training: bool) -> int:
        return self.training_bytes if training else self.validation_bytes

    def _first(self, share: Share, batch: Batch, keys: Sequence[bytes], training: bool) -> Recording:
        """Record the first batch of a layout, and see whether its examples go through the prefix each for itself."""
        alone = [(pair, _outputs_of(share, batch, pair)) for pair in _pairs(len(keys))]
        recording = share.record(batch)
        kept = recording.kept()
        if not all(_are_rows(kept, outputs, pair, num_rows=len(keys)) for pair, outputs in alone):
            self._give_up(training)
            return recording
        directory = self.directory if training else None
        self._caches[training] = PrefixCache(limit_bytes=self._limit(training), directory=directory)
        self._layouts[training] = _Layout(share.depth, share.replay.needs, _row_shapes(batch), recording.pattern())
        self._caches[training].insert(keys, kept)
        return recording

    def _give_up(self, training: bool) -> None:
        logger.info("outputs of frozen layers are not kept: those of an example depend on its batch")
        self._in_vain.add(training)
        self._forget(training)

    def _forget(self, training: bool) -> None:
        self._caches.pop(training, None)
        self._layouts.pop(training, None)


def _completed(
    computed: Sequence[Tensor], keys: Sequence[bytes], missing: Sequence[int], cache: PrefixCache
) -> list[Tensor]:
    """Return the outputs of a batch of which those of the examples at ``missing`` had to be computed."""
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


def _pairs(num_rows: int) -> list[list[int]]:
    """Return positions of examples, two and two, from all over a batch; of a single one, itself."""
    pairs = [[position, position - 1] for position in range(num_rows - 1, 0, -2)] or [[0]]
    return pairs[:: -(-len(pairs) // _PAIRS)]


def _outputs_of(share: Share, batch: Batch, positions: Sequence[int]) -> list[Tensor] | None:
    """Return what some examples of a batch give by themselves; None if the model takes no such batch."""
    try:
        return share.record(_rows_of(batch, positions)).kept()
    except Exception as error:
        if is_out_of_memory(error):
            raise
        return None


def _row_shapes(batch: Batch) -> tuple[torch.Size, ...]:
    return tuple(tensor.shape[1:] for tensor in tensors(batch))


def _rows_of(batch: Batch, positions: Sequence[int]) -> Batch:
    """Return the examples of a batch at ``positions``."""
    return map_tensors(lambda tensor: tensor[list(positions)], batch)


def _are_rows(
    whole: Sequence[Tensor], part: Sequence[Tensor] | None, positions: Sequence[int], *, num_rows: int
) -> bool:
    """Return whether outputs have one row for every example, and those of a part of a batch are rows of the whole's."""
    if not whole or part is None or len(part) != len(whole):
        return False
    return all(
        tensor.is_floating_point()
        and tensor.dim() > 0
        and len(tensor) == num_rows
        and is_same_but_for_rounding(rows, tensor[list(positions)])
        for tensor, rows in zip(whole, part, strict=True)
    )
