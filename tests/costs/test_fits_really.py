"""What is predicted to fit trains in an address space of that size, and twice as much does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from frostline.costs.capacity import Capacity
from tests.costs.confined_training import task_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.multiprocess,
    pytest.mark.skipif(sys.platform != "linux", reason="no limit to address space that is kept"),
]

MEBIBYTE = 2**20

# Large blocks are taken from the system and given back one by one, so that address space is what tensors take.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "65536",
    "MALLOC_TOP_PAD_": "0",
}
# What libraries keep for themselves does not grow with the batch (``MARGIN``): the margin covers it from some size on.
DEVICE_MEMORY = {"gpt": 120 * MEBIBYTE, "vit": 120 * MEBIBYTE, "resnet": 400 * MEBIBYTE, "mlp": 160 * MEBIBYTE}


def ends(cases: list[dict[str, Any]]) -> list[str]:
    """Train every case in a process of its own, and return how each ended."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.costs.confined_training", json.dumps(cases)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, **ENVIRONMENT},
    )
    assert ended.returncode == 0, ended.stderr
    said: list[str] = json.loads(ended.stdout)
    return said


@pytest.mark.parametrize("family", DEVICE_MEMORY)
def test_the_largest_batch_trains_and_twice_that_does_not(family: str) -> None:
    if family in ("resnet", "vit"):
        pytest.importorskip("transformers")
    memory = DEVICE_MEMORY[family]
    capacity = Capacity(task_of(family))
    cases = []
    for layers in (1, capacity.cost(1).num_layers):
        batch_size = capacity.largest_batch(layers, memory)
        case = {"family": family, "layers": layers, "device_memory": memory}
        cases += [case | {"batch_size": batch_size}, case | {"batch_size": 2 * batch_size}]
    assert list(zip(cases, ends(cases), strict=True)) == list(
        zip(cases, ["trained", "out of memory"] * 2, strict=True)
    )


@pytest.mark.parametrize("family", ["gpt", "mlp"])
def test_the_largest_population_trains_and_twice_that_does_not(family: str) -> None:
    memory = DEVICE_MEMORY[family]
    capacity = Capacity(task_of(family))
    members = capacity.population(2, memory)
    assert members > 1
    case = {"family": family, "layers": 2, "device_memory": memory}
    assert ends([case | {"members": members}, case | {"members": 2 * members}]) == ["trained", "out of memory"]
