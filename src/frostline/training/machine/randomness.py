"""Global generators, borrowed: torch's for a training, all that data sets draw from for a batch; given back as they were."""

from __future__ import annotations

import random
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def borrowed_generators(device: torch.device) -> Iterator[None]:
    """Save the state of the CPU's and every accelerator's generator, and restore them when the context ends.

    Accelerators that nothing has touched yet are left asleep when ``device`` is the CPU: waking CUDA costs memory
    on the device, and forbids forking afterwards.
    """
    awake = device.type != "cpu" or torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    accelerator = torch.accelerator.current_accelerator() if awake and torch.accelerator.is_available() else None
    kind = "cuda" if accelerator is None else accelerator.type
    count = 0 if accelerator is None else torch.accelerator.device_count()
    with torch.random.fork_rng(devices=range(count), device_type=kind):
        yield


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed the generators that a model on ``device`` draws from: its own and the CPU's.

    Within ``borrowed_generators`` only. ``torch.manual_seed`` would do it for all devices, at sixty times the
    price: this is called before every step.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        torch.cuda.default_generators[index].manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


@contextmanager
def seeded_for_data(seed: int) -> Iterator[None]:
    """Seed the CPU generators that data sets draw from, torch's, NumPy's and Python's; restore their states afterwards."""
    of_torch, of_python = torch.get_rng_state(), random.getstate()
    of_numpy = np.random.get_state()  # noqa: NPY002 (what users' data sets draw from)
    torch.default_generator.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    try:
        yield
    finally:
        torch.set_rng_state(of_torch)
        random.setstate(of_python)
        np.random.set_state(of_numpy)  # noqa: NPY002


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generators of every device and library for the user's own code; restore their states afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        with seeded_for_data(seed):
            yield


def generator_states(device: torch.device) -> tuple[torch.Tensor, ...]:
    """Return the states of the generators that a model on ``device`` draws from."""
    states = [torch.default_generator.get_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    elif device.type == "mps":
        states.append(torch.mps.get_rng_state())
    return tuple(states)
