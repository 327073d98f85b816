"""What every test shares: few threads, and the devices that are there."""

from __future__ import annotations

import os

import pytest
import torch
from hypothesis import settings

# Two workers on two cores: more threads would only fight each other.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")
settings.register_profile("frostline", deadline=None, derandomize=True)
settings.load_profile("frostline")


def available_devices() -> list[pytest.ParameterSet]:
    """The devices that tests run on: the CPU, and CUDA where there is one (else a visible skip)."""
    no_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    return [pytest.param("cpu"), pytest.param("cuda", marks=[pytest.mark.gpu, no_cuda])]


@pytest.fixture(params=available_devices())
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)
