"""What a command loads: nothing that is slow to import before it is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir
from pathlib import Path

import pytest

import frostline
from frostline.cli.main import main
from tests.cli.command_line import run

SLOW = {"torch", "numpy", "optuna", "scipy", "sklearn", "sqlalchemy", "plotly", "transformers", "tokenizers"}
STUDY_READERS = {"numpy", "optuna", "sqlalchemy"}
TINY = f"{Path(__file__).parents[1] / 'tiny_task.py'}:task"

pytestmark = pytest.mark.multiprocess


# The interpreter and the command line are loaded once, and every command that comes as a line runs in a fork.
COMMANDS = """
import json, os, sys, traceback
import frostline.__main__
import frostline.cli.main
for line in sys.stdin:
    words, folder, *places = json.loads(line)
    child = os.fork()
    if not child:
        os.chdir(folder)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for descriptor, place in enumerate(places, 1):
            os.dup2(os.open(place, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), descriptor)
        sys.argv[1:] = words
        status = 1
        try:
            frostline.__main__.main()
            status = 0
        except SystemExit as ended:
            status = ended.code or 0
        except BaseException:
            traceback.print_exc()
        finally:
            print()
            print(json.dumps(sorted(sys.modules)), flush=True)
            os._exit(status)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def commands() -> Iterator[subprocess.Popen[str]]:
    """A process that has loaded what the installed command does before it knows its words."""
    words = [sys.executable, "-c", COMMANDS]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process


# Words and a folder; the status, the slow libraries that were loaded, and what was printed.
RunIn = Callable[[Sequence[str], Path], tuple[int, set[str], str]]


@pytest.fixture
def loaded_by(commands: subprocess.Popen[str], tmp_path_factory: pytest.TempPathFactory) -> RunIn:
    """What runs a command in a folder: its status, the slow libraries that it loaded, and what it printed."""
    out, err = (tmp_path_factory.mktemp("printed") / name for name in ("out", "err"))

    def run_in(words: Sequence[str], folder: Path) -> tuple[int, set[str], str]:
        assert commands.stdin is not None
        assert commands.stdout is not None
        commands.stdin.write(json.dumps([words, f"{folder}", f"{out}", f"{err}"]) + "\n")
        commands.stdin.flush()
        status = int(commands.stdout.readline())
        *printed, modules = out.read_text().splitlines()
        return status, SLOW & set(json.loads(modules)), "\n".join(printed) + err.read_text()

    return run_in


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the study of a search, which is made here, where torch is loaded."""
    place = tmp_path_factory.mktemp("studies")
    with chdir(place), pytest.raises(SystemExit, match="0"):
        main(["tune", TINY, "--study", "first", "--configurations", "9"])
    return place


@pytest.mark.parametrize("command", ["", "tune", "audit", "ladder", "cost", "fit", "train", "report", "reproduce"])
def test_help_loads_nothing(command: str, tmp_path: Path, loaded_by: RunIn) -> None:
    code, loaded, printed = loaded_by([*command.split(), "--help"], tmp_path)
    assert (code, loaded) == (0, set())
    assert f"Usage: frostline {command}".strip() in printed


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("tune digits-mlp --nonsense", "No such option"),
        ("tune digits-mlp --configurations many", "valid int"),
        ("tune digits-mlp --sampler tpee", "Did you mean 'tpe'?"),
        ("tune digits-mlp --search halvin", "Did you mean 'halving'?"),
        ("tune digits-mlp --ladder diagonel", "Did you mean 'diagonal'?"),
        ("tune digits-mlp --ladder 2:x,6:1024", "write LAYERS:SAMPLES"),
        ("tune digits-mlp --engine steam", "engine is 'steam'"),
        ("tune digits-mlp --memory much", "much"),
        ("tune digits-mlp --threads many", "--threads is 'many', but must be auto or a whole number."),
        ("train digits-mlp --threads 100000", "threads is 100000, but must be auto or in 1.."),
        ("audit digits-mlp --workers 0", "workers is 0, but must be auto or at least 1."),
        ("tune digits-mlp --device tpu", "device is 'tpu', but must be one of auto, cpu, cuda, mps."),
        ("tune digits-mlp --precision float8", "precision is 'float8'"),
        ("tune digits-mlp --horizon far", "horizon is 'far'"),
        ("tune digits-mlp --budget lots", "'lots' is no budget"),
        ("tune digits-mlp --align 1:x", "the alignment '1:x' is none"),
        ("tune digits-mlp --default x", "write NAME=VALUE"),
        ("tune digits-mlp --config none.toml", "there is no such file"),
        ("tune digits-mlp --space none.toml", "there is no such file"),
        ("tune nothing", "there is no task 'nothing'"),
        ("tune missing.py:task", "there is no file 'missing.py'"),
        ("tun", "Did you mean 'tune'?"),
        ("audit digits-mlp --table page.html", "ends in .csv"),
        ("audit digits-mlp --layers 1,x", "write whole numbers"),
        ("train digits-mlp --configuration [1]", "write an object"),
        ("train digits-mlp --save .", "name a file"),
        ("cost digits-mlp --layers 0", "must be whole numbers"),
        ("fit digits-mlp --device-memory 0", "a device has some memory"),
        ("ladder", "name either a task"),
        ("reproduce", "which figure?"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_loaded(
    command: str, message: str, tmp_path: Path, loaded_by: RunIn
) -> None:
    code, loaded, printed = loaded_by(command.split(), tmp_path)
    assert code in (1, 2)
    assert message in printed
    assert loaded == set()


@pytest.mark.parametrize(
    "command",
    [
        "status first",
        "status first --watch",
        "best first",
        "best first --json",
        "best first --weights best.safetensors",
        "retry first",
        "ladder --study first -n 9",
    ],
)
def test_what_the_study_tells_is_told_without_torch(command: str, folder: Path, loaded_by: RunIn) -> None:
    code, loaded, printed = loaded_by(command.split(), folder)
    assert (code, loaded) == (0, STUDY_READERS)
    assert printed


def test_what_is_being_done_is_on_the_screen_before_torch_is_loaded(tmp_path: Path, loaded_by: RunIn) -> None:
    _, loaded, printed = loaded_by(["tune", "missing.py"], tmp_path)
    assert printed.startswith("loading missing.py\n")
    assert loaded == set()


def test_a_report_needs_no_torch(folder: Path, loaded_by: RunIn) -> None:
    code, loaded, printed = loaded_by(["report", "first"], folder)
    assert code == 0
    assert "in report.html" in printed
    assert not loaded & {"torch", "sklearn", "transformers", "tokenizers"}


def test_the_ladder_of_a_study_is_that_of_its_task(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    _, of_task, _ = run(f"ladder {TINY} --configurations 9 --rungs 2", capsys)
    _, of_study, _ = run("ladder --study first --configurations 9 --rungs 2", capsys)
    assert of_task == of_study
    assert "6" in of_task
    code, _, err = run(f"ladder {TINY} --study first", capsys)
    assert (code, "name either a task" in err) == (1, True)
    code, _, err = run("ladder --study first --set size=3", capsys)
    assert (code, "--set goes with a task" in err) == (1, True)


def test_the_process_is_prepared_before_torch_is_loaded(tmp_path: Path) -> None:
    code = (
        "import os, sys, frostline.__main__ as command, frostline.process\n"
        "prepare = frostline.process.prepare_process\n"
        "def watched(): print('torch' in sys.modules); prepare()\n"
        "frostline.process.prepare_process = watched\n"
        "try: command.main()\n"
        "finally: print(os.environ['GOMP_SPINCOUNT'], 'torch' in sys.modules)"
    )
    environment = {name: value for name, value in os.environ.items() if "OMP_WAIT" not in name}
    words = [sys.executable, "-c", code, "layers", TINY]
    ended = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, env=environment)
    lines = ended.stdout.splitlines()
    assert (ended.returncode, lines[0], lines[-1]) == (0, "False", "5000 True")


def test_the_package_runs_as_a_module(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "frostline", "--version"]
    ended = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (0, f"{frostline.__version__}\n")
