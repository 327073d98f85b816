"""The states of the random generators that the user's code may draw from: torch's, NumPy's and Python's."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def current_states() -> dict[str, Any]:
    """Return the states as tensors and plain values, which ``torch.load`` reads without running code."""
    kind, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002 (the user's code may use it)
    version, numbers, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "accelerator": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": (kind, torch.from_numpy(np.asarray(keys, dtype=np.int64)), position, has_gauss, cached),
        "python": (version, torch.tensor(numbers, dtype=torch.int64, device="cpu"), gauss),
    }


def set_states(states: dict[str, Any]) -> None:
    """Let the generators go on from ``states``."""
    kind, keys, position, has_gauss, cached = states["numpy"]
    version, numbers, gauss = states["python"]
    torch.set_rng_state(states["torch"])
    if states["accelerator"]:
        torch.cuda.set_rng_state_all(states["accelerator"])
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, cached))  # noqa: NPY002
    random.setstate((version, tuple(numbers.tolist()), gauss))
