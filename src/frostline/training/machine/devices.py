"""Where training runs: one device, one precision, and batches moved there."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from frostline.errors import OptionError
from frostline.inputs.device_names import check_device
from frostline.layers.cutting.nesting import leaves, map_leaves

if TYPE_CHECKING:
    from frostline.protocols import Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePlan:
    """The device of a training, and the type its matrix products are computed in.

    ``compute_dtype`` None computes in the parameters' own type; ``torch.bfloat16`` runs the forward pass under
    autocast while parameters, gradients and optimizer state keep their type. ``pins_batches``: training batches on their way
    to CUDA go through pinned memory.
    Raises: OptionError for any other type: float16 would need its loss scaled.
    """

    device: torch.device
    compute_dtype: torch.dtype | None = None
    pins_batches: bool = True

    def __post_init__(self) -> None:
        if self.compute_dtype not in (None, torch.bfloat16):
            raise OptionError(
                f"compute_dtype is {self.compute_dtype}, but must be None (the parameters' own) or torch.bfloat16."
            )

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context of a forward pass."""
        if self.compute_dtype is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.compute_dtype)


def device_plan_of(device: str, precision: str) -> DevicePlan:
    """Return the device of that name and the precision to compute in.

    Raises: OptionError if there is no such device, or precision is neither float32 nor bfloat16.
    """
    compute_dtypes = {"float32": None, "bfloat16": torch.bfloat16}
    if precision not in compute_dtypes:
        raise OptionError(f"precision is {precision!r}, but must be one of {', '.join(compute_dtypes)}.")
    return DevicePlan(device=resolve_device(device), compute_dtype=compute_dtypes[precision])


def resolve_device(name: str) -> torch.device:
    """Return the device called ``name``: "cpu", "cuda", "mps", or for "auto" the first accelerator, else the CPU.

    Raises: OptionError if the name is another one, or there is no such device.
    """
    check_device(name)
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if there[kind]))
    if not there[name]:
        usable = ", ".join(kind for kind, available in there.items() if available)
        raise OptionError(f"device is {name!r}, but torch finds none here: use one of auto, {usable}.")
    return torch.device(name)


def move_batch(batch: Batch, device: torch.device, *, copy: bool = False) -> Batch:
    """Return ``batch`` with every tensor in it on ``device``, in the containers it came in.

    With ``copy`` tensors that are there already are copied too: models may write into what they are given.

    Containers are tuples (named ones too), lists, mappings, dataclasses (Hugging Face's outputs among them),
    nested as they like, and whatever has a ``to`` of its own; anything else is handed through. The original is
    left as it was.
    """

    def moved(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            # From pageable memory this is an ordinary copy; from pinned memory it overlaps with computing. To the CPU it
            # would be read before it is there.
            return leaf.to(device, non_blocking=device.type != "cpu", copy=copy)
        return leaf.to(device) if hasattr(leaf, "to") else leaf

    return map_leaves(moved, batch, is_leaf=_is_mapping_that_moves)


def first_tensor(batch: Batch) -> Tensor:
    """Return the first tensor in a nested batch, in the order of its containers.

    Raises: ValueError if there is none.
    """
    for leaf in leaves(batch):
        if isinstance(leaf, Tensor):
            return leaf
    raise ValueError(f"there is no tensor in a batch of type {type(batch).__name__}")


def _is_mapping_that_moves(value: Any) -> bool:
    return isinstance(value, Mapping) and hasattr(value, "to")


def synchronise(device: torch.device) -> None:
    """Wait until ``device`` has done what it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def reset_peak_bytes(device: torch.device) -> None:
    """Set the device's peak counter back to what is allocated now, where it has one."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_bytes(device: torch.device) -> int | None:
    """Return the most bytes that tensors took on ``device`` since the reset; None on the CPU and MPS."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
