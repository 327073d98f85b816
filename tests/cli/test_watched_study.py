"""`frostline status --watch`: a study is looked at until its search is over, and Ctrl-C ends that cleanly."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from frostline.cli.main import main
from frostline.cli.watched_study import climb_of
from frostline.search.budgets.budgeted import BudgetedHalving
from frostline.store.reading import read_study
from tests.cli.command_line import run

HERE = "sqlite:///frostline.db"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(Path(__file__).parents[1] / "tiny_task.py", tmp_path / "tiny_task.py")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("size", ["-n 9", "--budget 3"])
def test_a_search_is_watched_to_its_end(
    size: str, folder: Path, processes: ForkServerContext, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(f"tune tiny_task.py:task --study s --for-workers {size}", capsys)[0] == 0
    worker = processes.Process(target=main, args=(["worker", "s", "--workers", "1", "--device", "cpu"],))
    worker.start()
    watch = [sys.executable, "-m", "frostline", "status", "s", "--watch", "--every", "0.1"]
    watched = subprocess.run(watch, capture_output=True, text=True, timeout=120, check=False)
    worker.join(60)
    out = watched.stdout
    assert (watched.returncode, watched.stderr) == (0, "")
    assert worker.exitcode == 0
    assert f":{worker.pid}  cpu  " in out
    assert "1 worker on 1 machine; " in out
    assert "the search is over" in out
    # Afterwards it is said as without.
    assert out.endswith(run("status s", capsys)[1])
    assert len(read_study(HERE, "s").history.configurations) > 3


def test_ctrl_c_ends_it_cleanly(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("tune tiny_task.py:task --study s --for-workers -n 9", capsys)
    command = [sys.executable, "-m", "frostline", "status", "s", "--watch", "--every", "20"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background jobs, and all they start, ignore the interrupt otherwise.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    # Not at the end of its twenty seconds.
    assert time.monotonic() - begin < 15
    assert first == "s: 0/9, 0/3, 0/1 evaluations at its rungs; nobody works on it\n"
    assert "study 's' in sqlite:///frostline.db: task tiny, 0 configurations" in out


def test_how_often_is_refused_in_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seconds in ("0", "-1", "nan", "1e9"):
        code, _, err = run(f"status s --watch --every {seconds}", capsys)
        assert (code, "but must be in 0.1..86400 seconds." in err) == (1, True)
    code, _, err = run("status s --watch", capsys)
    assert (code, "there is no storage" in err) == (1, True)


def test_the_search_under_a_budget_is_known_from_the_study(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("tune tiny_task.py:task --study s --for-workers --budget 3", capsys)
    terms = read_study(HERE, "s").terms
    climb = climb_of(terms)
    assert isinstance(climb, BudgetedHalving)
    assert (climb.fingerprint, climb.budget.full_trainings) == (terms.search, 3)
    run("tune tiny_task.py:task --study other --for-workers -n 9", capsys)
    assert climb_of(read_study(HERE, "other").terms) is None
