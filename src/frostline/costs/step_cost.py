"""What one training step costs: bytes, FLOPs, seconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Units: bytes of tensors on the device that trains.

    ``parameters`` are all of the model's, frozen ones too, and its buffers; ``gradients`` those of the trained parameters;
    ``optimizer_state`` that after the first step; ``activations`` what the forward pass keeps for backward: distinct
    storages, without parameters, buffers and batch. ``peak`` is the most that is held at any moment of a step that is not
    the first. It may be less than the sum of the others: gradients take the place of activations that are freed.
    ``reserved`` is what CUDA's caching allocator holds for that, where it was predicted for CUDA.
    """

    parameters: int
    gradients: int
    optimizer_state: int
    activations: int
    peak: int
    reserved: int | None = None

    @property
    def needed(self) -> int:
        """What the device must have: what the allocator holds, where that is known, else the peak."""
        return self.peak if self.reserved is None else self.reserved

    @property
    def rest(self) -> int:
        """What the peak holds beyond the four others: the batch, temporary tensors, gradients of activations."""
        return max(0, self.peak - self.parameters - self.gradients - self.optimizer_state - self.activations)


@dataclass(frozen=True, slots=True)
class Seconds:
    """The median of one part of a step over its repetitions, and the distance between their quartiles."""

    median: float
    spread: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSeconds:
    """What the parts of a step take. Units: seconds of wall-clock, the device synchronised after each part."""

    forward: Seconds
    backward: Seconds
    optimizer: Seconds
    whole: Seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCost:
    """One training step of a task with its last ``trainable_layers`` trained.

    Units: ``batch_size`` counts examples; ``trainable_parameters`` elements; FLOPs count a multiplication and an addition as
    two, those of matrix products, convolutions and attention alone. ``seconds`` is None if the step was predicted.
    """

    trainable_layers: int
    num_layers: int
    batch_size: int
    trainable_parameters: int
    memory: Memory
    forward_flops: int
    backward_flops: int
    seconds: StepSeconds | None = None

    @property
    def flops(self) -> int:
        """FLOPs of the whole step."""
        return self.forward_flops + self.backward_flops
