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


START = ROOT / "docs" / "index.md"


def python_in(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)


# Pages that are notebooks too are run as such.
PAGES = [
    page
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    if page != START and python_in(page) and not page.with_suffix(".ipynb").exists()
]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_in_the_documentation_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "documentation"}
    for block in python_in(page):  # it is read from top to bottom
        exec(compile(block, page.name, "exec"), names)


def test_the_start_page_shows_the_search_of_the_readme() -> None:
    assert python_in(START) == python_in(ROOT / "README.md") != []
