"""The most memory that tensors took while something ran, as the allocator saw it: kernels' own tensors too."""

from __future__ import annotations

import os
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.autograd.profiler import profile

from frostline.errors import OptionError
from frostline.training.machine.devices import synchronise

if TYPE_CHECKING:
    from collections.abc import Iterator


class PeakBytes:
    """Reads the peak of a device's allocator while this context lasts.

    ``bytes`` is what was taken at the peak on top of what was held at the beginning, at least 0; ``before`` what was held
    then, or None where nobody knows: on the CPU. ``bytes`` is 0 until the context ends.

    On the CPU nothing that was there before may be let go meanwhile: the profiler does not know its size, so that the peak
    comes out too high by as much, and says so on the terminal. Set gradients to None first.

    On the CPU the profiler notes every operation and allocation of this thread, and of those that autograd and the
    kernels start: about 2 KB of memory and 10 to 25 µs for each, whatever the tensors' size, let go at the end; a training
    step has thousands. Memory that a library takes past torch's allocator is not seen.
    Raises: OptionError if the device is neither the CPU nor CUDA: others keep no peak; on entering, OptionError if a
        profiler is open in this thread already: two cannot be.
    """

    def __init__(self, device: torch.device) -> None:
        if device.type not in ("cpu", "cuda"):
            raise OptionError(
                f"device is {device.type!r}, whose peak of memory torch cannot read: use 'cpu' or 'cuda'."
            )
        self._device = device
        self._profiler: profile | None = None
        self.bytes = 0
        self.before: int | None = None

    def __enter__(self) -> PeakBytes:
        if self._device.type == "cuda":
            synchronise(self._device)
            torch.cuda.reset_peak_memory_stats(self._device)
            self.before = torch.cuda.memory_allocated(self._device)
            return self
        if torch.autograd._profiler_enabled():  # type: ignore[attr-defined]  # there is no public way to ask
            raise OptionError(
                "the peak of memory on the CPU is read by torch's profiler, and one is open: close it first."
            )
        profiler = profile(profile_memory=True)
        with _quiet_profiler():
            profiler.__enter__()  # type: ignore[no-untyped-call]
        self._profiler = profiler
        return self

    def __exit__(self, *error: object) -> None:
        if self.before is not None:
            self.bytes = max(0, torch.cuda.max_memory_allocated(self._device) - self.before)
            return
        profiler, self._profiler = self._profiler, None
        assert profiler is not None
        with _quiet_profiler():
            profiler.__exit__(*error)  # type: ignore[no-untyped-call]
        self.bytes = _peak_of(profiler)


def _peak_of(profiler: profile) -> int:
    """Return the highest sum of allocations less releases, in the order in which they were."""
    # The profiler's own list of events leaves allocations out that no operation makes; its raw results hold them all.
    results = profiler.kineto_results
    assert results is not None
    changes = [
        (event.start_ns(), event.nbytes())  # type: ignore[attr-defined]
        for event in results.events()
        if event.name() == "[memory]" and event.device_type() == DeviceType.CPU
    ]
    held = peak = 0
    for _, change in sorted(changes, key=lambda each: each[0]):
        held += change
        peak = max(peak, held)
    return peak


@contextmanager
def _quiet_profiler() -> Iterator[None]:
    """Keep the profiler from writing to the terminal: it logs its own starts and stops there (torch 2.13)."""
    name = "KINETO_LOG_LEVEL"
    level = os.environ.get(name)
    os.environ.setdefault(name, "99")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if level is None:
            del os.environ[name]
