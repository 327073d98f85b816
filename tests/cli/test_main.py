"""The command line, on a task of milliseconds: what it prints, and that every error is one line."""

from __future__ import annotations

import ctypes
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

import frostline
from frostline.cli.main import main
from frostline.run.outcome.summary import best_evaluation
from frostline.search.algorithms import search_names
from frostline.store.reading import read_study
from tests import forks
from tests.cli.command_line import run, study_here

TINY = f"{Path(__file__).parents[1] / 'tiny_task.py'}:task"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_search_from_start_to_finish(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(f"tune {TINY} --study first --configurations 9 --compare", capsys)
    assert (code, err) == (0, "")
    assert out.count("configuration ") >= 13
    assert "best: configuration" in out
    assert "full trainings" in out
    assert "the task's own configuration, trained in full" in out
    code, out, _ = run("status first", capsys)
    assert code == 0
    assert "task tiny, 9 configurations" in out
    code, out, _ = run("best first", capsys)
    assert "at full fidelity" in out
    command = out.split("train it in full: ")[1].split("frostline ")[1].strip()
    score = out.split("score ")[1].split()[0]
    code, out, err = run(command, capsys)
    assert (code, err) == (0, "")
    assert f"score {score} after" in out  # trained again outside the search, it gets the very score
    code, out, _ = run("best first --json", capsys)
    best = json.loads(out)
    assert best == study_here("first").best_trial.params


def test_the_same_command_continues_and_a_larger_total_adds(capsys: pytest.CaptureFixture[str]) -> None:
    run(f"tune {TINY} --study s --configurations 9", capsys)
    _, again, _ = run(f"tune {TINY} --study s --configurations 9", capsys)
    assert "configuration 0  " not in again  # nothing is evaluated a second time
    run(f"tune {TINY} --study s --configurations 12", capsys)
    assert len(study_here("s").trials) == 12


# Of every search that has a name: the evaluations of 22 configurations at each rung, and the best configuration.
SEARCHES = {
    "halving": ("successive halving", [22, 7, 2], 18),
    "hyperband": ("hyperband", [12, 10, 7], 12),
    "asynchronous": ("asynchronous halving", [22, 7, 2], 18),
    "sweep": ("sweep", [22, 22, 22], 12),
    "full": ("full fidelity", [0, 0, 22], 12),
}


def test_every_search_that_has_a_name_is_here() -> None:
    assert SEARCHES.keys() == search_names.SEARCHES.keys()


@pytest.mark.parametrize("search", SEARCHES)
def test_every_search(search: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = f"tune {TINY} --search {search} --configurations 22 --study s --storage journal.log --device cpu"
    code, out, err = run(command, capsys)
    assert (code, err) == (0, "")
    words, evaluations, best = SEARCHES[search]
    study = read_study("journal.log", "s")
    assert study.terms.search.startswith(words)
    assert [study.history.rung(rung).num_ended for rung in range(3)] == evaluations
    top = best_evaluation(study.history)
    assert top is not None
    assert (top.number, top.rung) == (best, 2)
    assert f"best: configuration {best}, score {top.score:.5g} (lower is better), at full fidelity" in out


@pytest.mark.parametrize("sampler", ["qmc", "tpe", "gp", "cmaes", "grid"])
def test_every_sampler(sampler: str, capsys: pytest.CaptureFixture[str]) -> None:
    points = "--grid-points 5" if sampler == "grid" else ""
    command = f"tune {TINY} --sampler {sampler} {points} --configurations 10 --storage journal.log"
    code, out, err = run(command, capsys)
    assert (code, err) == (0, "")
    assert "best: configuration" in out


def test_layers_and_ladder(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(f"layers {TINY}", capsys)
    assert code == 0
    assert "6" in out
    code, out, _ = run(f"ladder {TINY} --configurations 9", capsys)
    assert code == 0
    assert "cost in full trainings" in out
    code, out, _ = run(f"ladder {TINY} --ladder 2:200,2:500,6:1024", capsys)
    assert code == 0


def test_a_function_with_options_and_a_space_of_ones_own(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "space.toml").write_text("[space.learning_rate]\nlow = 0.001\nhigh = 0.01\nlog = true\n")
    make = TINY.replace(":task", ":make")
    code, _, err = run(
        f"tune {make} --set size=128 --space space.toml --study f --configurations 9 --no-defaults", capsys
    )
    assert (code, err) == (0, "")
    trials = study_here("f").trials
    assert all(0.001 <= trial.params["learning_rate"] <= 0.01 for trial in trials)


def test_the_weights_can_be_kept(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(f"train {TINY} --configuration '{{\"learning_rate\": 0.01}}' --save weights.pt", capsys)
    assert code == 0
    assert "weights in weights.pt" in out
    assert (folder / "weights.pt").stat().st_size > 1000


def test_it_is_said_where_tied_weights_are_written_as_two(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = "random-tokens --set context_length=8 --set vocabulary_size=64 --set tied_embedding=true --samples 8"
    says = {}
    for choice in ("--layers 1", "--layers 1 --set tied=detach", ""):
        code, out, err = run(f"train {task} {choice} --save weights.safetensors", capsys)
        assert code == 0, err
        says[choice] = "a tied model loads one of them for both" in out
    assert says == {"--layers 1": True, "--layers 1 --set tied=detach": False, "": False}


ERRORS = {
    "tune nothing": "there is no task 'nothing': give one of python-source-gpt",
    "tune missing.py:task": "there is no file 'missing.py'",
    "tune broken.py:task": "could not be run: SyntaxError",
    f"tune {TINY}s": "defines no 'tasks'; the tasks in it are: task",
    f"tune {TINY.replace(':task', ':not_a_task')}": "is a int, not a task",
    f"tune {TINY} --set size=3": "takes no options",
    f"tune {TINY.replace(':task', ':make')} --set colour=3": "its options are: size",
    f"tune {TINY} --set size": "write NAME=VALUE",
    f"tune {TINY} --sampler tpee": "Did you mean 'tpe'?",
    f"tune {TINY} --search halvin": "Did you mean 'halving'?",
    f"tune {TINY} --ladder diagonel": "Did you mean 'diagonal'?",
    f"tune {TINY} --ladder 2:x,6:1024": "write LAYERS:SAMPLES",
    f"tune {TINY} --ladder 2:100,6:1000": "must be the full training: 6 layers and 1024 samples",
    f"tune {TINY} --ladder 0:100,6:1024": "at least 1",
    f"tune {TINY} --configurations 5": "ask for at least 9 configurations",
    f"tune {TINY} --configurations many": "valid int",
    f"tune {TINY} --configurations 0": "0 configurations cannot climb",
    f"tune {TINY} --budget lots": "'lots' is no budget: write a number of full trainings, such as 6, or a time",
    f"tune {TINY} --budget 0": "a budget of 0 full trainings answers nothing",
    f"tune {TINY} --budget=-3": "'-3' is no budget",
    f"tune {TINY} --budget 6 -n 9": "leave out --configurations, or the budget",
    f"tune {TINY} --budget 6 --search hyperband": "leave out --search, or the budget",
    f"tune {TINY} --device tpu": "tpu",
    f"tune {TINY} --precision float8": "precision is 'float8', but must be one of float32, bfloat16",
    f"tune {TINY} --horizon far": "horizon is 'far'",
    f"tune {TINY} --space none.toml": "there is no such file",
    f"tune {TINY} --space reversed.toml": "learning_rate",
    f"tune {TINY} --storage sqlite:////no/where.db": "unable to open database file",
    f"tune {TINY} --storage corrupt.log": "is corrupt",
    f"tune {TINY} --nonsense": "No such option",
    "tune": "Missing argument",
    "tun": "No such command 'tun'. Did you mean 'tune'? See",
    "status nothing": "there is no storage sqlite:///frostline.db",
    "best nothing --storage made.log": "there is no study 'nothing' in made.log; there are: none",
    f"train {TINY} --save .": "name a file",
    f"tune {TINY} --runs broken.py": "which is a file",
    f"train {TINY} --configuration '{{'": "is no JSON",
    f"train {TINY} --configuration '[1]'": "write an object",
    f"train {TINY} --configuration '{{\"rate\": 1}}'": "rate",
    f'train {TINY} --configuration \'{{"optimizer": "Adan"}}\'': "Adan",
    f"train {TINY} --layers 7": "1..6",
    f"train {TINY} --save no/where.pt": "name a file in a folder that exists",
}


@pytest.mark.parametrize("command", ERRORS)
def test_every_error_is_one_line(command: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "broken.py").write_text("def :\n")
    (folder / "reversed.toml").write_text("[space.learning_rate]\nlow = 1.0\nhigh = 0.1\n")
    (folder / "made.log").touch()
    (folder / "corrupt.log").write_text('{"op_code"\n{"op_code": 0}\n')
    code, _, err = run(command, capsys)
    assert code in (1, 2)
    assert ERRORS[command] in err
    assert err.startswith("frostline: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run("", capsys)
    assert code == 2
    assert "Usage: frostline" in out
    assert err == ""
    code, out, _ = run("--version", capsys)
    assert (code, out) == (0, f"{frostline.__version__}\n")


@pytest.mark.multiprocess
@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="not glibc")
def test_the_installed_command_keeps_freed_memory_but_for_models_that_are_kept_small() -> None:
    # Each in a fork of a process that was prepared before it loaded torch.
    code = (
        "from frostline.process import prepare_process; prepare_process()\n"
        "import os, resource, sys, torch, sklearn.datasets\n"  # which the task would load in each
        "from frostline.tasks.loading import task_named\n"
        "def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "for options in ([], ['frozen_placement=stream'], ['frozen_dtype=bfloat16']):\n"
        "    child = os.fork()\n"
        "    if child:\n"
        "        assert os.waitpid(child, 0)[1] == 0\n"
        "        continue\n"
        "    task_named('digits-mlp', options)\n"
        "    for _ in range(8): torch.ones(12_000_000)\n"
        "    before = faults()\n"
        "    for _ in range(10): torch.ones(12_000_000)\n"
        "    print(faults() - before, flush=True)\n"
        "    os._exit(0)"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    kept, *given_back = (int(faults) for faults in run.stdout.split())
    # One time 48 MB is 11,719 pages, ten times would be as many again for each; but pages may be of 2 MB.
    assert kept < 12_000
    assert len(given_back) == 2
    assert min(given_back) > 150


def test_debug_shows_the_traceback() -> None:
    from frostline.errors import TaskError

    with pytest.raises(TaskError):
        main(["tune", "nothing", "--debug"])


@pytest.mark.multiprocess
@pytest.mark.slow
def test_an_interrupt_says_that_nothing_is_lost(folder: Path, processes: ForkServerContext) -> None:
    with forks.Fork(processes, forks.frostline, ["tune", TINY, "-n", "2000", "--study", "s"]) as search:
        for line in search.stdout:
            if "score" in line:
                break
        # Python loses an exception in what the garbage collector calls back (SQLAlchemy's weak references): press again.
        # But not while it ends, which takes seconds on a busy machine, without the command's way out.
        for _ in range(3):
            time.sleep(0.2)
            search.send_signal(signal.SIGINT)
            if search.wait(timeout=60) is not None:
                break
        ended = search.ended()
    assert ended.returncode == 130
    assert ended.stderr.startswith("frostline: stopped. Every evaluation that ended is saved; go on with: ")
    assert ended.stderr.endswith(f"frostline tune {TINY} -n 2000 --study s\n")
    assert 1 <= len(study_here("s").trials) < 2000


@pytest.mark.parametrize("words", ["--storage :memory:", "--storage=:memory:", "--config run.toml"])
def test_an_interrupt_does_not_promise_what_memory_cannot_keep(
    words: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    (folder / "run.toml").write_text('storage = ":memory:"\n')
    monkeypatch.setattr("frostline.cli.recipe_search.search_by", interrupted)
    code, _, err = run(f"tune {TINY} {words}", capsys)
    assert (code, err) == (
        130,
        "frostline: stopped. The study was kept in memory alone: nothing is saved.\n",
    )
    code, _, err = run(f"tune {TINY} --study :memory:", capsys)
    assert "Every evaluation that ended is saved" in err


@pytest.mark.multiprocess
def test_an_interrupt_while_the_command_is_loaded_is_one_too() -> None:
    code = (
        "import sys\n"
        "class Interrupts:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'frostline.cli.main': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupts())\n"
        "from frostline.__main__ import main; main()"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "frostline: stopped.\n")


@pytest.mark.multiprocess
@pytest.mark.skipif(os.name != "posix", reason="streams are closed by a shell of POSIX")
@pytest.mark.parametrize(("closed", "words", "status"), [(">&-", "--version", 0), (">&- 2>&-", "tune nothing", 1)])
def test_what_is_written_to_a_closed_stream_goes_nowhere(closed: str, words: str, status: int) -> None:
    command = f"exec {shlex.quote(sys.executable)} -m frostline {words} {closed}"
    ended = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (status, "", "")


@pytest.mark.multiprocess
def test_a_prepared_process_does_not_look_for_cycles_when_it_ends() -> None:
    code = (
        "from frostline.process import prepare_process; prepare_process()\n"
        "import os\n"
        "class Cycle:\n"
        "    def __init__(self): self.itself = self\n"
        "    def __del__(self, write=os.write): write(1, b'collected')\n"
        "Cycle()\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (0, "")
