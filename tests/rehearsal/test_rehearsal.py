"""Tests for a card pass on one of host memory, in a process of its own, and run the lines that name a device."""

from __future__ import annotations

from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from tests.forks import Fork
from tests.rehearsal.rehearsed import (
    ON_HOST_MEMORY,
    ROOT,
    cannot_be_rehearsed,
    device_lines,
    rehearse,
    rehearse_here,
    report,
)

pytestmark = [pytest.mark.multiprocess, ON_HOST_MEMORY]

# One of each kind: what takes minutes is left to ``make rehearse``.
QUICK = (
    "Planted or whole_search and auto or mlp-2 or skips-2-stacked or little_room or checkpoints or memory_is "
    "or auto_is or flops_of or summed or replayed and mlp-2 or changes_later or forgets or copied_ahead"
)


def test_a_few_trainings_are_rehearsed(processes: ForkServerContext) -> None:
    with Fork(processes, rehearse_here, "tests/rehearsal", "-k", QUICK) as fork:
        ended = fork.ended()
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert " passed" in ended.stdout
    assert "skipped" not in ended.stdout


@pytest.mark.torture
def test_every_line_that_names_a_device_is_rehearsed(tmp_path: Path) -> None:
    ended = rehearse("-m", "gpu", "tests/rehearsal", covered=tmp_path / "covered")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    words, unknown = report(tmp_path / "covered")
    assert not unknown, words


def test_what_cannot_be_rehearsed_is_still_there() -> None:
    known = {(line.path, line.text) for line in device_lines()}
    listed = {(path, text) for path, texts in cannot_be_rehearsed().items() for text in texts}
    assert listed <= known
    # And said to people.
    page = (ROOT / "docs" / "how-to" / "gpu.md").read_text()
    assert all(f"`{path}`" in page for path, _ in listed)
