"""What is predicted to fit trains in an address space of that size, and twice as much does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
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


Case = tuple[dict[str, Any], str]


def batches(family: str) -> Iterator[Case]:
    """The largest batch that is predicted to fit and twice that, and how they should end."""
    memory = DEVICE_MEMORY[family]
    capacity = Capacity(task_of(family))
    for layers in (1, capacity.cost(1).num_layers):
        batch_size = capacity.largest_batch(layers, memory)
        case = {"family": family, "layers": layers, "device_memory": memory}
        yield case | {"batch_size": batch_size}, "trained"
        yield case | {"batch_size": 2 * batch_size}, "out of memory"


def populations(family: str) -> Iterator[Case]:
    """The same for the members of a population."""
    memory = DEVICE_MEMORY[family]
    members = Capacity(task_of(family)).population(2, memory)
    assert members > 1
    case = {"family": family, "layers": 2, "device_memory": memory}
    yield case | {"members": members}, "trained"
    yield case | {"members": 2 * members}, "out of memory"


# Together in one process: its imports take longer than most cases. What is predicted of the others is compared with what
# their steps take in ``test_prediction``.
@pytest.mark.parametrize(
    "families",
    [("gpt",), pytest.param(("mlp", "vit", "resnet"), marks=pytest.mark.torture)],
    ids=" ".join,
)
def test_the_largest_batch_or_population_trains_and_twice_that_does_not(families: tuple[str, ...]) -> None:
    if "resnet" in families:
        pytest.importorskip("transformers")
    expected = [case for family in families for case in batches(family)]
    expected += [case for family in families if family in ("gpt", "mlp") for case in populations(family)]
    ended = subprocess.run(
        [sys.executable, "-m", "tests.costs.confined_training", json.dumps([case for case, _ in expected])],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, **ENVIRONMENT},
    )
    assert ended.returncode == 0, ended.stderr
    assert [(case, end) for (case, _), end in zip(expected, json.loads(ended.stdout), strict=True)] == expected
