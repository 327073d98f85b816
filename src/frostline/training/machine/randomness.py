"""Global generators, torch's, NumPy's and Python's: borrowed for a training or for a batch, and given back as they were."""

from __future__ import annotations

import random
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def borrowed_generators(device: torch.device) -> Iterator[None]:
    """Save the state of all generators, every accelerator's too, and restore them when the context ends.

    Accelerators that nothing has touched yet are left asleep when ``device`` is the CPU: waking CUDA costs memory
    on the device, and forbids forking afterwards.
    """
    awake = device.type != "cpu" or torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    accelerator = torch.accelerator.current_accelerator() if awake and torch.accelerator.is_available() else None
    kind = "cuda" if accelerator is None else accelerator.type
    count = 0 if accelerator is None else torch.accelerator.device_count()
    with torch.random.fork_rng(devices=range(count), device_type=kind), _libraries_restored():
        yield


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed the generators that a model on ``device`` and its loss draw from: the device's, the CPU's, NumPy's and Python's.

    Within ``borrowed_generators`` only. ``torch.manual_seed`` would do it for all devices, at sixty times the
    price: this is called before every step.
    """
    _seed_host(seed)
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        torch.cuda.default_generators[index].manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


@contextmanager
def seeded_for_data(seed: int) -> Iterator[None]:
    """Seed the generators that data sets draw from, all but accelerators'; restore their states afterwards."""
    of_torch = torch.get_rng_state()
    with _libraries_restored():
        _seed_host(seed)
        try:
            yield
        finally:
            torch.set_rng_state(of_torch)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generators of every device and library for the user's own code; restore their states afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        with seeded_for_data(seed):
            yield


def generator_states(device: torch.device) -> tuple[torch.Tensor, ...]:
    """Return the states of the generators that a model on ``device`` draws from."""
    states = [torch.default_generator.get_state(), *library_states()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    elif device.type == "mps":
        states.append(torch.mps.get_rng_state())
    return tuple(states)


def library_states() -> tuple[torch.Tensor, ...]:
    """Return the states of NumPy's and Python's generators."""
    of_numpy: Any = np.random.get_state()  # noqa: NPY002 (what users' models draw from)
    states = [[*random.getstate()[1]], [*of_numpy[1].tolist(), of_numpy[2]]]
    return tuple(torch.tensor(state, device="cpu") for state in states)


def _seed_host(seed: int) -> None:
    torch.default_generator.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 (what users' models and data draw from)


@contextmanager
def _libraries_restored() -> Iterator[None]:
    """Restore the states of NumPy's and Python's generators when the context ends."""
    of_python, of_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)  # noqa: NPY002
