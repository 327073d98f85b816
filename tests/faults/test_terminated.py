"""A search that a cluster or a service tells to end ends as with Ctrl-C: nothing is lost, and it says how to go on."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from frostline.cli.main import main
from frostline.store.backends.storage import close_storage, open_storage
from tests.forks import Fork, frostline

pytestmark = pytest.mark.multiprocess

TASK = f"{Path(__file__).parents[1] / 'tiny_task.py'}:task"
WORDS = ["tune", TASK, "-n", "27", "--workers", "1", "--study", "s"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def trials_and_workers(folder: Path, name: str) -> tuple[list[Any], dict[str, Any]]:
    storage = open_storage(f"sqlite:///{folder / name}")
    study_id = storage.get_study_id_from_name("s")
    trials = [
        (trial.number, trial.params, trial.state, trial.values, trial.intermediate_values)
        for trial in storage.get_all_trials(study_id)
    ]
    attributes = storage.get_study_system_attrs(study_id)
    deaths = [key for trial in storage.get_all_trials(study_id) for key in trial.system_attrs if "deaths" in key]
    close_storage(storage)
    assert deaths == [], "whoever says goodbye has not died of anything"
    return trials, {key: value for key, value in attributes.items() if "worker" in key}


def lines_until_evaluated(search: Fork) -> Iterator[str]:
    for line in search.stdout:
        yield line
        if line.startswith("rung 0  configuration 3 "):
            return


def test_a_search_that_is_terminated_loses_nothing_and_goes_on(folder: Path, processes: Any) -> None:
    with Fork(processes, frostline, WORDS) as search:
        shown = [*lines_until_evaluated(search)]
        # Python loses an exception in what the garbage collector calls back (SQLAlchemy's weak references): once more.
        for _ in range(5):
            search.send_signal(signal.SIGTERM)
            if search.wait(timeout=10) is not None:
                break
            time.sleep(0.2)
        ended = search.ended()
        shown += ended.stdout.splitlines()
    assert ended.returncode == 130
    assert ended.stderr.startswith("frostline: stopped. Every evaluation that ended is saved; go on with: ")
    assert any(line.startswith("best so far:") for line in shown), shown
    trials, workers = trials_and_workers(folder, "frostline.db")
    assert trials
    assert set(workers.values()) == {None}
    with pytest.raises(SystemExit, match="0"):
        main(WORDS)
    after, _ = trials_and_workers(folder, "frostline.db")
    assert [trial[:2] for trial in after[: len(trials)]] == [trial[:2] for trial in trials]
    assert all(after[trial[0]][4].items() >= trial[4].items() for trial in trials), "what had ended is as it was"
    assert len(after) == 27
    assert [trial[2].name for trial in after].count("COMPLETE") == 3
