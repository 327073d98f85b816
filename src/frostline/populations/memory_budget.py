"""The memory that a search may take, divided between its populations and the outputs kept beside them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from frostline.populations.prefix.prefix_store import PrefixStore
from frostline.sizes import parse_size
from frostline.training.machine.memory import available_bytes

# Of what is free when nobody says how much may be taken: other processes grow too.
_SHARE_OF_FREE = 0.8

# Of what is allowed, the outputs kept of training and of validation examples.
_TRAINING_SHARE = 0.2
_VALIDATION_SHARE = 0.05

_HOST = torch.device("cpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryBudget:
    """What a search's populations may take on ``device``, and in the host's memory the outputs that are kept.

    Where both lie in one memory (CPU, MPS), together they never take more than ``allowed_bytes``.
    """

    device: torch.device
    allowed_bytes: int | None
    """None: most of what is free, looked up whenever something is to be taken."""

    @classmethod
    def parse(cls, memory: str, *, device: torch.device) -> MemoryBudget:
        """Return the budget of "auto" or of a size such as "8GiB".

        Raises: OptionError if it is neither.
        """
        return cls(device=device, allowed_bytes=None if memory == "auto" else parse_size(memory))

    def store(self, prefix_cache: str, *, directory: Path) -> PrefixStore:
        """Return an empty store with its share: ``prefix_cache`` of training examples, "auto", "off" or a size.

        A size that would take more than half of the memory lies in a file in ``directory``.
        Raises: OptionError if it is none of these.
        """
        # The host has no more to give than is free, however much of an accelerator's memory is allowed.
        free = available_bytes(_HOST)
        allowed = min(free, self._allowed(_HOST))
        validation = round(_VALIDATION_SHARE * allowed)
        if prefix_cache in ("auto", "off"):
            training = round(_TRAINING_SHARE * allowed) if prefix_cache == "auto" else 0
            return PrefixStore(training_bytes=training, validation_bytes=validation)
        size = parse_size(prefix_cache)
        return PrefixStore(
            training_bytes=size,
            validation_bytes=min(size, validation),
            directory=directory if size > allowed // 2 else None,
        )

    def share_of(self, num_processes: int) -> int:
        """Return the bytes of each of several processes that train side by side."""
        return self._allowed(self.device) // num_processes

    def left_beside(self, store: PrefixStore) -> int:
        """Return the bytes that a population may take while ``store`` holds what it does and grows to its limits."""
        allowed = self._allowed(self.device)
        if self.device.type == "cuda":
            return allowed
        # Of the host's free memory what the store holds is gone already.
        is_subtracted = self.allowed_bytes is None and self.device.type == "cpu"
        return max(0, allowed - store.limit_bytes + (store.held_bytes if is_subtracted else 0))

    def _allowed(self, device: torch.device) -> int:
        if self.allowed_bytes is not None:
            return self.allowed_bytes
        return round(_SHARE_OF_FREE * available_bytes(device))
