"""`frostline status --watch`: a study is looked at until its search is over, and Ctrl-C ends that cleanly."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from frostline.run.outcome.ending import climb_of
from frostline.search.budgets.budgeted import BudgetedHalving
from frostline.store.reading import read_study
from tests.cli.command_line import run
from tests.forks import Fork, frostline

HERE = "sqlite:///frostline.db"
# However fast the machine is, nobody learns before they have been seen.
UNTIL_SEEN = """
import time
from dataclasses import replace
from pathlib import Path


def schedule(configuration):
    def rate(share):
        while not Path("seen").exists():
            time.sleep(0.01)
        return 1.0

    return rate


task = replace(task, schedule=schedule)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(Path(__file__).parents[1] / "tiny_task.py", tmp_path / "tiny_task.py")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("size", ["-n 9", "--budget 3"])
def test_a_search_is_watched_to_its_end(
    size: str, folder: Path, processes: ForkServerContext, capsys: pytest.CaptureFixture[str]
) -> None:
    with Path("tiny_task.py").open("a") as file:
        file.write(UNTIL_SEEN)
    assert run(f"tune tiny_task.py:task --study s --for-workers {size}", capsys)[0] == 0
    with (
        Fork(processes, frostline, ["worker", "s", "--workers", "1", "--device", "cpu"]) as worker,
        Fork(processes, frostline, ["status", "s", "--watch", "--every", "0.1"]) as watching,
    ):
        seen = ""
        # A worker that has died is never seen: the one that watches it is told to end, and what it said is shown.
        alarm = threading.Timer(60, watching.send_signal, [signal.SIGINT])
        alarm.start()
        while f":{worker.pid}  cpu  " not in seen and (line := watching.stdout.readline()):
            seen += line
        alarm.cancel()
        if f":{worker.pid}  cpu  " not in seen:
            worker.kill()
            pytest.fail(f"the worker was not seen: {worker.ended()} {seen}")
        Path("seen").touch()
        # Nor does a search that stands still come to its end: both say where they are.
        alarms = [threading.Timer(120, each.send_signal, [signal.SIGABRT]) for each in (worker, watching)]
        for alarm in alarms:
            alarm.start()
        watched, worked = watching.ended(), worker.ended()
        for alarm in alarms:
            alarm.cancel()
        assert worked.returncode == 0, f"{worked.stderr}\n{watched.stdout}\n{watched.stderr}"
    out = seen + watched.stdout
    assert (watched.returncode, watched.stderr) == (0, "")
    assert f":{worker.pid}  cpu  " in out
    assert "1 worker on 1 machine; " in out
    assert "the search is over" in out
    # Afterwards it is said as without.
    assert out.endswith(run("status s", capsys)[1])
    assert len(read_study(HERE, "s").history.configurations) > 3


def test_ctrl_c_ends_it_cleanly(
    folder: Path, processes: ForkServerContext, capsys: pytest.CaptureFixture[str]
) -> None:
    run("tune tiny_task.py:task --study s --for-workers -n 9", capsys)
    with Fork(processes, frostline, ["status", "s", "--watch", "--every", "20"]) as watching:
        first = watching.stdout.readline()
        begin = time.monotonic()
        watching.send_signal(signal.SIGINT)
        watched = watching.ended()
    assert (watched.returncode, watched.stderr) == (0, "")
    # Not at the end of its twenty seconds.
    assert time.monotonic() - begin < 15
    assert first == "s: 0/9, 0/3, 0/1 evaluations at its rungs; nobody works on it\n"
    assert "study 's' in sqlite:///frostline.db: task tiny, 0 configurations" in watched.stdout


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
