"""A whole run in a file, and what the help and the shell know of a command's options."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from frostline.store.reading import read_study
from tests.cli.command_line import run, study_here

TINY = f"{Path(__file__).parents[2] / 'tiny_task.py'}"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(text: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The line with which a file is refused."""
    (folder / "run.toml").write_text(text)
    code, _, err = run("tune --config run.toml", capsys)
    assert code in (1, 2)
    assert err.count("\n") == 1
    return err


def test_a_file_says_a_whole_run_and_words_on_the_command_line_win(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "run.toml").write_text(
        f'task = "{TINY}:make"\nstudy = "from the file"\nconfigurations = 9\nseed = 5\nstorage = "journal.log"\n'
        'device = "cpu"\ncompare = true\n[set]\nsize = 128\n'
    )
    code, out, err = run("tune --config run.toml", capsys)
    assert (code, err) == (0, "")
    assert "the task's own configuration, trained in full" in out
    terms = read_study("journal.log", "from the file").terms
    assert (terms.seed, terms.rungs[-1].samples) == (5, 512)
    code, out, err = run("tune --config run.toml --study other --seed 6 -n 10 --set size=64", capsys)
    assert (code, err) == (0, "")
    study = read_study("journal.log", "other")
    assert (study.terms.seed, study.terms.rungs[-1].samples) == (6, 256)
    assert len(study.history.configurations) == 10


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("budgt = 6", "run.toml: 'budgt' is no option of this command: did you mean 'budget'?"),
        ("zzz = 6", "'zzz' is no option of this command: it may say address, against, align, budget,"),
        ("config = 'x'", "'config' is no option of this command"),
        ("budget = [6]", "budget is [6], but must be one text or number"),
        ("budget = 2026-01-01", "budget is 2026-01-01, but must be text or a number"),
        ("compare = 'yes'", "compare is 'yes', but must be true or false"),
        ("task = 'x'\nconfigurations = 'many'", "'--configurations' / '-n': Input should be a valid integer"),
        ("task = 'x'\nsearch = 'halvin'", "Did you mean 'halving'?"),
        ("task = ", "it is no TOML"),
        ("budget = 6", "Missing argument 'TASK'"),
    ],
)
def test_what_a_file_may_not_say_is_named(
    text: str, words: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in refusal(text, folder, capsys)


def test_a_file_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--config none.toml: there is no such file." in run("tune --config none.toml", capsys)[2]


@pytest.mark.parametrize(
    ("text", "status"), [("measure = true", 0), ("predict = false", 0), ("measure = true\npredict = true", 1)]
)
def test_a_flag_may_be_said_by_its_opposite(
    text: str, status: int, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "run.toml").write_text(f"{text}\nrepetitions = 1\nlayers = '1'\ndevice = 'cpu'\n")
    code, _, err = run(f"cost {TINY}:task --config run.toml", capsys)
    assert code == status
    assert not status or "predict is said twice, by its opposite too" in err


def test_a_password_in_a_file_is_not_repeated(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = "postgresql://u:hunter2-Xyzzy@[::1/x"
    assert "hunter2" not in refusal(f"task = '{TINY}:task'\nstorage = '{place}'", folder, capsys)


def test_a_file_with_one_task_needs_no_name(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(f"tune {TINY} --budget 2 --device cpu", capsys)
    assert (code, err) == (0, "")
    assert f"frostline train {TINY} --configuration" in out
    (folder / "two.py").write_text(
        "import dataclasses\nfrom tests.tiny_task import task\nsame = task\nother = dataclasses.replace(task, name='b')\n"
    )
    assert (
        "'two.py' holds several tasks, task, other: say which, such as two.py:task."
        in run("layers two.py", capsys)[2]
    )
    (folder / "none.py").touch()
    assert "'none.py' holds no task: let it hold a frostline.SupervisedTask" in run("layers none.py", capsys)[2]
    assert "there is no file 'missing.py'" in run("layers missing.py", capsys)[2]


def test_a_hyperparameter_that_a_space_adds_has_a_default(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "space.toml").write_text(
        "[space.learning_rate]\nlow = 0.001\nhigh = 0.01\nlog = true\n[space.batch_size]\nchoices = [16, 32]\n"
    )
    tune = f"tune {TINY} --space space.toml --study s --budget 2 --device cpu"
    code, _, err = run(tune, capsys)
    assert (code, err) == (0, "")
    (own,) = study_here("s").trials
    assert own.params == {"learning_rate": 0.001, "batch_size": 32}
    with (folder / "space.toml").open("a") as file:
        file.write("[space.beta1]\nlow = 0.8\nhigh = 0.99\n")
    code, _, err = run(tune.replace("--study s", "--study t"), capsys)
    assert code == 1
    assert "the defaults of tiny lack beta1: give a value to all that is searched (on the command line with" in err
    words = "--default beta1=0.95 --default batch_size=16 --study t"
    code, _, err = run(tune.replace("--study s", words), capsys)
    assert (code, err) == (0, "")
    (own,) = study_here("t").trials
    assert own.params == {"learning_rate": 0.001, "batch_size": 16, "beta1": 0.95}


def test_help_is_in_groups_and_short_and_all_of_it_can_be_had(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = run("tune --help", capsys)
    assert code == 0
    panels = [line.strip("╭─╮ ") for line in out.splitlines() if line.startswith("╭")]
    assert panels == ["Arguments", "Options", "What to search", "How to train", "Where"]
    assert len(out.splitlines()) <= 36
    assert "--prefix-cache" not in out
    code, out, _ = run("tune --help-all", capsys)
    assert code == 0
    assert "--prefix-cache" in out


@pytest.mark.multiprocess
def test_a_shell_completes_commands() -> None:
    environment = {
        **os.environ,
        "_FROSTLINE_COMPLETE": "complete_bash",
        "COMP_WORDS": "frostline tu",
        "COMP_CWORD": "1",
    }
    command = [sys.executable, "-m", "frostline"]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (ended.returncode, ended.stdout.split()) == (0, ["tune"])
