"""What the documentation shows runs."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_example_of_own_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["own_model.py", "--storage", "sqlite:///example.db"])
    runpy.run_path(str(ROOT / "examples" / "own_model.py"), run_name="__main__")
    out = capsys.readouterr().out
    losses = [float(value) for value in re.findall(r"loss of ([\d.]+)", out)]
    assert len(losses) == 2
    assert losses[0] < 3.9, "a GPT-2 that learnt nothing has a loss of log 64 = 4.16"
    assert losses[1] < 0.9, "a network that learnt nothing has a loss of log 3 = 1.10"


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", ["README.md", *(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))]
)
def test_python_in_the_documentation_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    names: dict[str, object] = {"__name__": "documentation"}
    for block in blocks:  # a page is read from top to bottom
        exec(compile(block, page, "exec"), names)
    assert blocks or page != "README.md"
