"""What comes in at the command line: nonsense is refused in one line that says why, and no password is repeated."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command_line import run

TINY = f"{Path(__file__).parents[1] / 'tiny_task.py'}:task"
MAKE = TINY.replace(":task", ":make")
PASSWORD = "hunter2-Xyzzy"
DIGITS = "9" * 5000


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line with which a command is refused."""
    code, _, err = run(command, capsys)
    assert code in (1, 2)
    assert err.startswith("frostline: ")
    assert err.count("\n") == 1
    assert err.removesuffix("\n").isprintable()
    assert not err.startswith("frostline: unexpected")
    assert len(err) < 2000
    return err


BOUNDS = {
    f"ladder {TINY} --rungs 1000000": "--rungs is 1000000, but must be a whole number in 2..100",
    f"ladder {TINY} --rungs 1 --ladder diagonal": "--rungs is 1,",
    f"ladder {TINY} --ladder auto": "--ladder auto: an audit says which rungs these are",
    f"ladder {TINY} --ladder audit:a": "name one of sieve, diagonal, layers-only, samples-only here",
    f"fit {TINY} --device-memory 8GiB --ladder audit:a": "--ladder audit:a: an audit says which rungs these are",
    f"tune {TINY} --study ''": "--study is empty: give a name, or leave it out",
    f"audit {TINY} --study ' '": "--study is empty",
    f"audit {TINY} --of other": "--of 'other' goes with --align",
    f"tune {TINY} --grid-points 5": "--grid-points goes with --sampler grid, not with random",
    f"cost {TINY} --predict --repetitions -1": "--repetitions is -1, but with --predict no step is run",
    f"ladder {TINY} --ladder 6:1024": "to evaluate only at full fidelity, take the search 'full'.",
    f"ladder {TINY} --rungs 2": "the ladder sieve, the default under a budget, has rungs of its own: leave it out",
    f"tune {TINY} --rungs 2 --budget 6": "the ladder sieve",
    f"tune {TINY} --rungs 2 --ladder 2:100,6:1024 -n 9": "the ladder 2:100,6:1024 has rungs of its own",
    f"tune {TINY} --rungs 2 --ladder audit:a": "the ladder audit:a has rungs of its own",
    f"fit {TINY} --device-memory 8GiB --rungs 3 --ladder 2:100,6:1024": "has rungs of its own",
    f"tune {TINY} -n {10**12}": "1000000000000 configurations are more than a study can hold",
    f"tune {TINY} -n {10**12} --search full": "more than a study can hold",
    f"tune {TINY} -n {10**12} --search hyperband": "more than a study can hold",
    f"audit {TINY} -n {10**12}": "more than a study can hold",
    f"tune {TINY} --reduction-factor 0": "reduction_factor is 0, but it must be at least 2",
    f"tune {TINY} --reduction-factor {10**30}": "but may be 1000 at most",
    f"tune {TINY} --search sweep --reduction-factor 3": "--search sweep eliminates nobody",
    f"tune {TINY} --search hyperband --reduction-factor 0 -n 30": "reduction_factor is 0",
    f"tune {TINY} --seed -1": "--seed is -1, but must be a whole number in 0..",
    f"tune {TINY} --seed {2**64}": "--seed is 18446744073709551616",
    f"train {TINY} --seed {2**63}": "--seed is 9223372036854775808",
    f"train {TINY} --layers 0": "--layers is 0",
    f"train {TINY} --samples -1": "--samples is -1",
    f"fit {TINY} --device-memory 8GiB --margin 100000%": "a share of at least 0, and at most 100%",
    f"fit {TINY} --device-memory 99999999TiB": "more than the 16,777,216TiB that 64 bits address",
    f"tune {TINY} --memory 99999999999999999999TiB": "that 64 bits address",
    f"tune {TINY} --budget 1e30": "is no budget",
    f"tune {TINY} --budget {10**19}": "at most 1,000,000",
    f"tune {TINY} --budget {10**19}d": "at most a thousand years",
    f"tune {TINY} --ladder ''": "there is no ladder ''",
    f"tune {TINY} --workers {10**9}": "workers is 1000000000, but must be auto or at most 1024",
    f"tune {TINY} --threads １": "--threads is '１', but must be auto or a whole number",
    f"tune {TINY} --ladder ２:１００,6:1024": "'２:１００' is no rung",
    f"tune {TINY} --sampler grid --grid-points {10**9}": "a grid may have 1,000,000 points at most",
    f"tune {TINY} --sampler grid --grid-points 600000": "the grid has 1,200,000 points",
    f"tune {TINY} -n 9 --align ';'": "--align ';' changes nothing",
    f"tune {TINY} -n 9 --align ''": "--align '' changes nothing",
    f"audit {TINY} --align ''": "--align '' changes nothing",
    f"tune {TINY} -n 9 --align '1:learning_rate=2;1:learning_rate=3'": "names 1 layer twice",
    f"tune {TINY} -n 9 --align '1:learning_rate=2,learning_rate=3'": "names learning_rate twice",
    f"tune {TINY} -n 9 --align 1:learning_rate=1e300": "is 1e+300, but must be a number above 0, from 1e-06 to 1e+06",
    f"tune {TINY} -n 9 --align 1:learning_rate=２": "is none",
    f"audit {TINY} --budgets {10**9}": "budgets is 1000000000, but must be at least 1, and at most 1000",
    f"audit {TINY} --repeat-seeds {10**9}": "repeat_seeds is 1000000000, but must be in 0..1000",
    f"cost {TINY} --predict --batch-sizes 99999999999": "batch_size is 99999999999, but must be a whole number in 1..",
    f"cost {TINY} --repetitions -1": "but must be a whole number in 1..10000",
    f"cost {TINY} --repetitions {10**30}": "but must be a whole number in 1..10000",
    f"train {TINY} --configuration '{{\"batch_size\": 1e18}}'": "at least 1, and at most 1048576",
    "tune digits-mlp --set full_images=1e26": "full_images is 1e+26, but must be a whole number",
    f"tune digits-mlp --set full_images={10**26}": "numbers must be finite and within 64 bits",
    f"ladder digits-mlp --set full_images={10**17}": "full_images is 100000000000000000, but must be",
    f"train {TINY} --configuration '{{\"gradient_clip_norm\": Infinity}}'": "holds Infinity, but numbers must be finite",
    f"train {TINY} --configuration '{{\"learning_rate\": 1e999}}'": "holds 1e999",
    f"train {TINY} --configuration '{{\"learning_rate\": [1]}}'": "learning_rate is [1], but must be a number, text",
    f"train {TINY} --configuration '{'[' * 100_000}'": "is no JSON (it is nested too deep)",
    f"train {TINY} --set chunked_logits=maybe": "chunked_logits of tiny is 'maybe', but must be True or False",
    f"train {MAKE} --set frozen_dtype=5": "frozen_dtype is 5",
}


@pytest.mark.parametrize("command", BOUNDS)
def test_what_is_out_of_bounds_is_refused_with_a_reason(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert BOUNDS[command] in refusal(command, capsys)


@pytest.mark.parametrize(
    "command",
    [
        "tune {} -n D",
        "ladder {} --ladder D:100,6:1024",
        "ladder {} --rungs D",
        "cost {} --batch-sizes D",
        "cost {} --layers 1,D",
        "audit {} --layers D",
        "train {} --configuration '{\"batch_size\": D}'",
        "train {} --set size=D",
        "tune {} --memory DGiB",
        "tune {} --budget D",
        "tune {} --budget Dh",
        "tune {} --threads D",
        "tune {} --seed D",
        "tune {} --align D:learning_rate=2",
        "tune {} --align 1:learning_rate=D",
        "fit {} --device-memory 8GiB --margin D%",
        "tune {} --space space.toml",
    ],
)
def test_thousands_of_digits_are_refused(command: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "space.toml").write_text(f"[space.learning_rate]\nlow = 1\nhigh = {DIGITS}\n")
    words = refusal(command.replace("{}", MAKE if "size" in command else TINY).replace("D", DIGITS, 1), capsys)
    assert DIGITS not in words


PLACES = {
    f"train {TINY} --save /dev/full": "/dev/full cannot be written (it is no file)",
    f"train {TINY} --save /proc/weights.pt": "/proc/weights.pt cannot be written (No such file or directory)",
    f"audit {TINY} -n 9 --table /proc/table.csv": "/proc/table.csv cannot be written",
    f"cost {TINY} --out /proc/costs": "/proc/costs/costs.csv cannot be written",
    f"cost {TINY} --out /dev/full": "/dev/full/costs.csv cannot be written",
    f"fit {TINY} --device-memory 8GiB --out /dev/full": "/dev/full/fit.csv cannot be written",
    "report s --out /dev/full": "/dev/full cannot be written (it is no file)",
    f"tune {TINY} --storage /dev/full": "the journal file '/dev/full' cannot be opened",
    f"tune {TINY} --storage sqlite:////dev/full": "the storage sqlite:////dev/full cannot be used",
    f"tune {TINY} --space {'x' * 5000}": "cannot be used (File name too long)",
    f"tune {TINY} --runs {'x' * 5000}": "cannot be used (File name too long)",
    f"layers {'x' * 5000}.py:task": "cannot be used (File name too long)",
    f"status s --storage {'x' * 5000}": "File name too long",
}


@pytest.mark.parametrize("command", PLACES)
def test_a_place_that_cannot_be_written_is_refused_first(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert PLACES[command] in refusal(command, capsys)


WRONG_TYPES = {
    f"train {MAKE} --set size=abc": "size is 'abc', but should be a valid integer (it is annotated int)",
    f"train {MAKE} --set size=null": "size is None, but should be a valid integer",
    f"train {MAKE} --set size=true": "size is True, but should be a valid integer",
    f"train {MAKE} --set size=-1": "make cannot be made with size=-1: RuntimeError",
    "train text-gpt --set text=[]": "text is [], but should be a valid string",
    "train digits-mlp --set width=abc": "width is 'abc', but must be a whole number",
    "train digits-resnet --set widths=5": "widths is 5, but should be",
    "train random-tokens --set tied_embedding=maybe": "tied is 'maybe', but must be true or false",
    "train random-tokens --set tied=maybe": "tied is 'maybe': it must be 'auto' or 'detach' or 'snapshot'",
    f"layers {Path(__file__).parent}/awkward_tasks.py:fields --set 'fields={{\"augment\": 5}}'": "augment of tiny is 5",
    f"layers {Path(__file__).parent}/awkward_tasks.py:fields --set 'fields={{\"name\": null}}'": "name of a task is None",
    f"layers {Path(__file__).parent}/awkward_tasks.py:len": "defines no 'len'",
    f"layers {Path(__file__).parent}/awkward_tasks.py:nn": "is a module, not a task",
}


@pytest.mark.parametrize("command", WRONG_TYPES)
def test_an_option_of_the_wrong_type_is_named(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert WRONG_TYPES[command] in refusal(command, capsys)


FILES = {
    "raise ValueError('boom')": "'my_task.py' could not be run: ValueError: boom (my_task.py:1).",
    "def inner():\n    raise ValueError('[bold]boom[/nothing]')\n\ninner()": (
        "ValueError: [bold]boom[/nothing] (my_task.py:2, called from my_task.py:4)"
    ),
    "import sys\nsys.exit(0)": "could not be run: SystemExit: 0 (my_task.py:2)",
    "import sys\nsys.exit('enough')": "could not be run: SystemExit: enough (my_task.py:2)",
    "import frostline\nfrom frostline.errors import TaskError\nraise TaskError('give a value to all that is searched.')": (
        "TaskError: give a value to all that is searched (my_task.py:3)."
    ),
    "import no_such_module_anywhere": "ModuleNotFoundError: No module named 'no_such_module_anywhere' (my_task.py:1)",
    "def task(: pass": "could not be run: SyntaxError",
    "x = '\0'": "could not be run: SyntaxError",
    "def f(): f()\nf()": "could not be run: RecursionError",
    "class E(Exception):\n    def __str__(self): raise ValueError\nraise E": "E: whose message cannot be shown",
    "task = None": "is a NoneType, not a task",
    "def task(): raise KeyError('lost')": "task cannot be made: KeyError: 'lost' (my_task.py:1)",
    "def task(): raise SystemExit": "task cannot be made: SystemExit (my_task.py:1)",
    "class task:\n    def __getattr__(self, name): raise OSError('odd')\ntask = task()": "is a task, not a task",
    "task = print": "is a NoneType, not a task",
    "import frostline\ntask = frostline.SupervisedTask": "cannot be made: missing a required",
}


@pytest.mark.parametrize("contents", FILES)
def test_a_task_file_that_fails_is_shown_with_its_own_traceback(
    contents: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "my_task.py").write_text(contents)
    assert FILES[contents] in refusal("layers my_task.py:task", capsys)


def test_a_task_file_that_would_replace_a_module_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("json", "torch", "frostline"):
        (folder / f"{name}.py").touch()
        assert "rename the file" in refusal(f"layers {name}.py:task", capsys)


def test_an_error_in_the_users_model_is_told_from_ours(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "my_task.py").write_text(
        "import dataclasses\nfrom tests import tiny_task\n\n"
        "def model(configuration):\n    raise ValueError('[/b] no model')\n\n"
        "task = dataclasses.replace(tiny_task.task, model=model)\n"
    )
    assert "frostline: ValueError: [/b] no model (my_task.py:5)" in refusal("layers my_task.py:task", capsys)


NO_NAMES = {
    f"tune {TINY} -n 9 --study a$'\x1b'b": r"holds '\x1b', which cannot be printed",
    f"tune {TINY} -n 9 --study {'x' * 600}": "has 600 characters, but must have 1 to 512",
    f"status '{'x' * 600}' --storage :memory:": "has 600 characters",
}


@pytest.mark.parametrize("command", NO_NAMES)
def test_what_is_no_name_is_refused(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert NO_NAMES[command] in refusal(command, capsys)


@pytest.mark.parametrize(
    "command",
    [
        "status s --storage postgresql:u:{}@h/x",
        "status s --storage //u:{}@h/x",
        "status s --storage postgresql://u:{}@h:port/x",
        "best s --storage 'postgresql://u:{}@[::1/x'",
        "report s --storage postgresql://u:{}/x",
        "ladder --study s --storage postgresql:u:{}",
        "status postgresql://u:{}@h/x",
        "layers postgresql://u:{}@h/x",
        "layers digits-mlp --set postgresql://u:{}@h/x",
        "layers digits-mlp --set password={}",
        "train digits-mlp --configuration 'postgresql://u:{}@h/x'",
        "ladder digits-mlp --ladder postgresql://u:{}@h/x",
        "tune digits-mlp --runs postgresql://u:{}@h/x",
        "cost digits-mlp --out=postgresql://u:{}@h/x",
        "postgresql://u:{}@h/x",
        "status --postgresql://u:{}@h/x",
    ],
)
def test_no_password_is_repeated(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert PASSWORD not in refusal(command.replace("{}", PASSWORD), capsys)


def test_an_option_of_a_task_with_a_password_is_not_kept(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(
        f"tune {Path(__file__).with_name('awkward_tasks.py')}:served --set place=postgresql://u:{PASSWORD}@h/x "
        "-n 9 --study s",
        capsys,
    )
    assert (code, err) == (0, "")
    assert "--set place=postgresql://u@h/x" in out
    assert PASSWORD not in out
    run("report s", capsys)
    assert all(PASSWORD.encode() not in file.read_bytes() for file in folder.rglob("*") if file.is_file())


@pytest.mark.multiprocess
def test_a_full_disk_behind_the_output_is_one_line() -> None:
    command = [sys.executable, "-m", "frostline", "--help"]
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert ended.returncode == 1
    assert ended.stderr == "frostline: what is printed cannot be written: No space left on device.\n"
