"""What a process is told of its machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from frostline import process

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("max 100000", CORES), ("100000 100000", 1), ("10000 100000", 1), ("99900000 100000", CORES), (None, CORES)],
)
def test_cores_are_those_that_it_may_use(
    quota: str | None, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "cpu.max"
    if quota is not None:
        file.write_text(f"{quota}\n")
    monkeypatch.setattr(process, "_QUOTA", file)
    assert process.num_cores() == cores
