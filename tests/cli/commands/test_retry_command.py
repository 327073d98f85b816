"""`frostline retry` and `frostline delete`; and what the command line shows of a bug in a task's file."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from frostline.store.reading import read_study
from tests.cli.command_line import run

TASK = """
import torch
from optuna.distributions import FloatDistribution
from torch import nn
from torch.utils.data import TensorDataset

import frostline

data = TensorDataset(torch.randn(64, 4, generator=torch.Generator().manual_seed(0)), torch.zeros(64, dtype=torch.long))


def score(outputs, targets):
    return outputs.no_such_thing


task = frostline.SupervisedTask(
    name="mine",
    model=lambda configuration: nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2)),
    training_data=data,
    validation_data=data,
    loss_function=nn.functional.cross_entropy,
    score_function=score,
    space=frostline.SearchSpace(distributions={"learning_rate": FloatDistribution(1e-4, 1e-1, log=True)}),
    defaults={"learning_rate": 1e-3},
    full_samples=128,
    batch_size=32,
)
"""
PLACE = "sqlite:///frostline.db"
SEARCH = "tune my_task.py:task --study s --configurations 9"


@pytest.fixture(autouse=True)
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "my_task.py"
    path.write_text(TASK)
    yield path
    sys.modules.pop("my_task", None)


def mend(script: Path) -> None:
    script.write_text(TASK.replace("outputs.no_such_thing", "nn.functional.cross_entropy(outputs, targets)"))
    # Python keeps what it compiled of a file of the same second.
    os.utime(script, (1, 1))


def test_a_bug_is_shown_in_the_users_own_file_and_is_gone_when_it_is_mended(
    script: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(SEARCH, capsys)
    assert code == 1
    line = TASK.splitlines().index("    return outputs.no_such_thing") + 1
    traceback, _, sentence = err.partition("\n\n")
    # torch's and frostline's own lines are left out.
    assert [text for text in traceback.splitlines() if text.startswith("  File ")] == [
        f'  File "{script}", line {line}, in score'
    ]
    assert traceback.splitlines()[0] == "Traceback (most recent call last):"
    assert "AttributeError: 'Tensor' object has no attribute 'no_such_thing'" in traceback
    assert sentence.startswith("frostline: the training raises, 2 times in a row")
    assert f"(my_task.py:{line})" in sentence
    assert sentence.count("\n") == 1
    assert [f"{each.status}" for each in read_study(PLACE, "s").history.evaluations()] == ["failed", "failed"]
    mend(script)
    code, _, err = run(SEARCH, capsys)
    assert (code, err) == (0, "")
    assert {f"{each.status}" for each in read_study(PLACE, "s").history.evaluations()} == {"finished"}


def test_retry_says_what_is_tried_once_more(capsys: pytest.CaptureFixture[str]) -> None:
    run(SEARCH, capsys)
    _, out, _ = run("retry s", capsys)
    assert out == (
        "2 configurations that failed (0, 1): run the search again with the command that began it, and they are tried "
        "first.\n"
    )
    _, out, _ = run("retry s", capsys)
    assert out == (
        "nothing to try once more in the study 's'. Memory that ran out and processes that died come again with --all.\n"
    )
    code, _, err = run("retry other", capsys)
    assert (code, err.count("\n")) == (1, 1)
    assert "there is no study 'other'" in err


def test_delete_asks_on_a_terminal_and_takes_the_folder_along(
    script: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    mend(script)
    run(SEARCH, capsys)
    run(SEARCH.replace("--study s", "--study t"), capsys)
    assert {path.name for path in Path("frostline-runs").iterdir()} == {"s", "t"}
    code, _, err = run("delete s", capsys)
    assert (code, err.count("\n")) == (1, 1)
    assert "9 trials in sqlite:///frostline.db and the folder frostline-runs/s: say --yes" in err

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    # Ctrl-D at the question; Ctrl-C comes to the same.
    monkeypatch.setattr("sys.stdin", Terminal(""))
    code, out, err = run("delete s", capsys)
    assert (code, out.splitlines()[-1], err) == (130, "nothing was deleted.", "frostline: stopped.\n")
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    code, out, _ = run("delete s", capsys)
    assert (code, out.splitlines()[-1].endswith("nothing was deleted.")) == (0, True)
    assert read_study(PLACE, "s").history.num_evaluations
    code, out, _ = run("delete s --yes", capsys)
    assert (code, out) == (
        0,
        "deleted: the study 's', 9 trials in sqlite:///frostline.db and the folder frostline-runs/s\n",
    )
    assert [path.name for path in Path("frostline-runs").iterdir()] == ["t"]
    code, _, err = run("delete s --yes", capsys)
    assert "there is no study 's'" in err
    assert read_study(PLACE, "t").history.num_evaluations


def test_what_somebody_else_put_into_the_folder_stays_and_is_named(
    script: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mend(script)
    run(SEARCH, capsys)
    note = Path("frostline-runs/s/note.txt")
    note.write_text("mine")
    Path("frostline-runs/s/tensorboard").mkdir()
    Path("s/models").mkdir(parents=True)
    code, _, err = run("delete s", capsys)
    left = "the checkpoints and weights in frostline-runs/s (kept there: note.txt, tensorboard)"
    assert f"9 trials in sqlite:///frostline.db and {left}: say --yes" in err
    code, out, _ = run("delete s --yes", capsys)
    assert (code, out) == (0, f"deleted: the study 's', 9 trials in sqlite:///frostline.db and {left}\n")
    assert {path.name for path in Path("frostline-runs/s").iterdir()} == {"note.txt", "tensorboard"}
    assert Path("s/models").is_dir()


def test_a_study_that_is_searched_is_not_deleted(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from frostline.store.backends.storage import opened
    from frostline.store.study import SearchStudy

    mend(script)
    run(SEARCH, capsys)
    stored = read_study(PLACE, "s")
    with opened(PLACE) as place:
        worker = SearchStudy.open(place, "s", terms=stored.terms, space=stored.space)
        code, _, err = run("delete s --yes", capsys)
        worker.close()
    assert code == 1
    assert f"is being searched, by process {os.getpid()} on" in err
    assert run("delete s --yes", capsys)[0] == 0
