"""The page on Slurm shows files that work, as far as that can be seen without Slurm: a real shell runs them."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from frostline.cli.main import main
from frostline.store.reading import read_study

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "how-to" / "slurm.md").read_text()
ARRAY = {"SLURM_CPUS_PER_TASK": "1", "SLURM_ARRAY_TASK_ID": "1", "SLURM_JOB_ID": "7"}

pytestmark = pytest.mark.multiprocess


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return str(found)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a task file, from which `frostline` is found, and a place for the study that the page begins."""
    shutil.copy(ROOT / "tests" / "tiny_task.py", tmp_path / "my_task.py")
    program = tmp_path / "bin" / "frostline"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m frostline "$@"\n')
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    for name, value in ARRAY.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SLURM_SUBMIT_DIR", str(tmp_path))
    monkeypatch.setenv("STUDIES", f"sqlite:///{tmp_path}/studies.db")
    return tmp_path


def begin() -> None:
    (command,) = re.findall(r"^\$ (frostline tune .*--for-workers)$", PAGE, re.MULTILINE)
    command = re.sub(r"--budget \d+", "-n 9", re.sub(r"postgresql://\S+", '"$STUDIES"', command))
    words = shlex.split(os.path.expandvars(command.replace("my_task.py", "my_task.py:task")))
    with pytest.raises(SystemExit) as ended:  # here, where torch is loaded
        main(words[1:])
    assert ended.value.code == 0


def sbatch_file(folder: Path) -> Path:
    path = folder / "mine.sbatch"
    path.write_text(block("bash"))
    return path


def test_the_batch_file_is_run_by_a_shell_and_its_signal_reaches_the_worker(folder: Path) -> None:
    path = sbatch_file(folder)
    subprocess.run(["bash", "-n", path], check=True)
    missing = {name: value for name, value in os.environ.items() if name != "STUDIES"}
    ended = subprocess.run(["bash", path], env=missing, capture_output=True, text=True)
    assert ended.returncode != 0
    assert "STUDIES: is to name the database" in ended.stderr
    with subprocess.Popen(["bash", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as waiting:
        assert waiting.stdout is not None
        assert "waiting for it, for up to 600 seconds" in waiting.stdout.readline()
        waiting.send_signal(signal.SIGTERM)
        _, err = waiting.communicate(timeout=60)
    assert waiting.returncode == 130
    assert err.startswith("frostline: stopped.")
    begin()
    subprocess.run(["bash", path], check=True, capture_output=True)
    study = read_study(f"sqlite:///{folder}/studies.db", "mine")
    assert study.history.num_evaluations == 13
    assert (folder / "frostline-runs").is_dir()


# What one worker does by the batch file, and several by their command in ``tests/faults/test_killed_workers.py``.
@pytest.mark.torture
def test_the_targets_of_the_makefile_are_workers(folder: Path) -> None:
    begin()
    place = f"sqlite:///{folder}/studies.db"
    (folder / "Makefile").write_text(block("make").replace("sqlite:////shared/mine.db", place))
    subprocess.run(["make", "-j", "2", "worker-1", "worker-2"], check=True, capture_output=True)
    assert read_study(place, "mine").history.num_evaluations == 13


@pytest.mark.slow
def test_the_script_for_submitit_runs_on_its_local_executor(folder: Path) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed")
    begin()
    place = f"sqlite:///{folder}/studies.db"
    script = block("py").replace("postgresql://user@host/studies", place).replace("range(16)", "range(2)")
    script = script.replace('folder="submitit-logs"', 'folder="submitit-logs", cluster="local"')
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "best: configuration " in ended.stdout
    assert read_study(place, "mine").history.num_evaluations == 13
