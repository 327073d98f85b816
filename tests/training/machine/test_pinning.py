"""Batches for the CPU are handed through as they are; those for CUDA are rehearsed (``tests/rehearsal``)."""

from __future__ import annotations

import torch

from frostline.training.machine.devices import DevicePlan
from frostline.training.machine.pinning import pinned_batches
from tests.training.cases import CPU


def test_batches_for_the_cpu_are_the_same_objects() -> None:
    batches = [(torch.ones(2), {"mask": torch.zeros(1)}), torch.arange(3)]
    handed_on = list(pinned_batches(batches, DevicePlan(device=CPU, pins_batches=True)))
    assert all(ours is theirs for ours, theirs in zip(handed_on, batches, strict=True))
