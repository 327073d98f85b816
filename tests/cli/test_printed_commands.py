"""Commands that are printed do what they say, as they are printed, from where they were: in a shell that knows no .venv."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

import frostline
from frostline.run.installed_programs import frostline_program, program
from tests import tiny_task
from tests.cli.command_line import run, study_here

TINY = f"{Path(__file__).parents[1] / 'tiny_task.py'}:make"
SPACE = "[space.learning_rate]\nlow = 0.001\nhigh = 0.1\nlog = true\n"

pytestmark = pytest.mark.multiprocess


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with blanks in its name, from which the programs of the environment are not found by their names."""
    place = tmp_path / "my studies"
    place.mkdir()
    (place / "space.toml").write_text(SPACE)
    monkeypatch.chdir(place)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    return place


def typed(command: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["/bin/sh", "-c", command], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def after(words: str, text: str) -> str:
    found = re.search(rf"{re.escape(words)}(.+)", text)
    assert found is not None, text
    return found[1]


def typed_here(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What a command prints that is run in this process, which has loaded torch already; a shell splits it the same."""
    program = f"{frostline_program()} "
    assert command.startswith(program)
    code, out, err = run(command.removeprefix(program), capsys)
    assert (code, err) == (0, "")
    return out


def test_what_a_search_and_an_audit_print_can_be_typed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = f"{TINY} --set size=128 --space space.toml --default optimizer=SGD --seed 3 --storage 'j 1.log' --device cpu"
    code, out, err = run(f"tune {options} --study 's 1' -n 9", capsys)
    assert (code, err) == (0, "")
    score = after("best: ", out).split("score ")[1].split()[0]
    assert f"score {score} after" in typed_here(after("train it in full: ", out), capsys)
    with typed(after("a page about it: ", out), folder) as process:
        printed, errors = process.communicate(timeout=200)
    assert (process.returncode, printed) == (0, "in report.html\n"), errors
    assert (folder / "report.html").is_file()
    code, audit, err = run(f"audit {options} -n 5 --layers 2,6 --budgets 2 --repeats 0", capsys)
    assert (code, err) == (0, "")
    assert "best: " in typed_here(after("search with the recommended ladder: ", audit), capsys)


@pytest.mark.skipif(program("optuna-dashboard") is None, reason="the dashboard is not installed")
def test_the_dashboard_shows_the_study(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(f"tune {TINY} --study s --budget 2 --device cpu", capsys)
    with typed(f"exec {after('look at it with: ', out)} --port 0", folder) as process:
        assert process.stderr is not None
        for line in process.stderr:
            # "on" by itself, "at" under gunicorn, which it takes where that is installed.
            if "Listening on" in line or "Listening at" in line:
                break
        assert process.poll() is None
        process.terminate()


def test_what_is_told_of_a_python_study_is_no_command_that_does_not_know_its_task(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frostline.tune_task(
        tiny_task.task,
        study="s",
        plan=frostline.SearchPlan(budget=2),
        training=frostline.TrainingOptions(device="cpu"),
    )
    code, out, _ = run("best s", capsys)
    assert code == 0
    assert "train it in full with the program that made the study: {" in out
    assert "frostline train" not in out
    assert len(study_here("s").trials) == 1
