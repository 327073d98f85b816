"""What a process is told of its machine."""

from __future__ import annotations

import gc
import os
import weakref
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


class Ring:
    """Garbage that only a collection finds."""

    def __init__(self) -> None:
        self.itself = self


@pytest.mark.usefixtures("nothing_frozen")
def test_collections_pass_over_what_was_there_until_the_end_and_free_what_was_garbage_before() -> None:
    held, garbage = Ring(), weakref.ref(Ring())
    old = weakref.ref(held)
    with process.old_objects_passed_over():
        assert garbage() is None
        new = weakref.ref(Ring())
        del held
        gc.collect()
        assert (old() is None, new() is None) == (False, True)
        with process.old_objects_passed_over():
            pass
        gc.collect()
        assert old() is not None, "the inner one ended what it had not begun"
    gc.collect()
    assert old() is None
