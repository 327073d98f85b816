"""`frostline best` and `train`: what the score is called, and what is said where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.command_line import run

TASKS = """
from dataclasses import replace

import torch

from tests.tiny_task import task


def nothing(outputs, targets):
    return outputs.sum() * torch.nan


named = replace(task, metric="cross-entropy")
lost = replace(task, loss_function=nothing)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tasks.py").write_text(TASKS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_score_is_called_as_the_task_calls_it(capsys: pytest.CaptureFixture[str]) -> None:
    run("tune tasks.py:named --study s --budget 2 --device cpu", capsys)
    _, out, _ = run("best s", capsys)
    assert out.startswith("configuration 0, cross-entropy 0.")
    code, out, _ = run("train tasks.py:named --device cpu", capsys)
    assert code == 0
    *curve, last = out.splitlines()
    assert sum("  cross-entropy 0." in line for line in curve) == 4
    assert last.startswith("cross-entropy 0.")
    assert "score" not in out


def test_where_all_diverged_it_is_said_why_there_is_no_best(capsys: pytest.CaptureFixture[str]) -> None:
    run("tune tasks.py:lost --study s -n 9 --device cpu", capsys)
    code, _, err = run("best s", capsys)
    assert code == 1
    assert err.startswith("frostline: the study 's' has no score")
    assert ": all 9 evaluations diverged or failed, the first one diverged: " in err
    assert err.count("\n") == 1


def test_a_search_that_has_trained_nothing_is_to_run_on(capsys: pytest.CaptureFixture[str]) -> None:
    run("tune tasks.py:named --study s --for-workers --budget 3 --device cpu", capsys)
    code, _, err = run("best s", capsys)
    assert (code, err) == (1, "frostline: the study 's' has no score yet: let the search run on.\n")
