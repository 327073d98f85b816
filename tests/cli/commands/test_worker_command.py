"""The command `frostline worker`: a study says all that a worker needs, and who does not belong there is told so."""

from __future__ import annotations

import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import frostline
from frostline.cli.commands.worker_command import Stopping, stopping_when_terminated
from frostline.cli.main import main
from frostline.records import Progress
from frostline.store.backends.storage import opened
from frostline.store.opening import open_study
from frostline.store.reading import TERMS, found_study, read_study
from frostline.store.study import SearchStudy
from tests import tiny_task
from tests.cli.command_line import run

HERE = "sqlite:///frostline.db"
SPACE = "[space.learning_rate]\nlow = 0.002\nhigh = 0.05\nlog = true\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the user's task file, from where commands are called."""
    place = tmp_path / "my search"
    place.mkdir()
    shutil.copy(Path(__file__).parents[2] / "tiny_task.py", place / "tiny_task.py")
    monkeypatch.chdir(place)
    return place


def begin(capsys: pytest.CaptureFixture[str], more: str = "-n 9", task: str = "tiny_task.py:task") -> str:
    code, out, err = run(f"tune {task} --study s --for-workers {more}", capsys)
    assert (code, err) == (0, "")
    return out


def everything_in(place: str) -> list[Any]:
    study = read_study(place, "s")
    return [
        (made.number, made.hyperparameters, [(one.rung, one.score) for one in study.history.evaluations_of(made.number)])
        for made in study.history.configurations
    ]  # fmt: skip


def change_recipe(**changes: Any) -> None:
    terms = read_study(HERE, "s").terms
    with found_study(HERE, "s") as (place, study_id):
        recipe = None if changes == {"recipe": None} else {**(terms.recipe or {}), **changes}
        place.backend.set_study_user_attr(study_id, TERMS, replace(terms, recipe=recipe).record())


@pytest.mark.parametrize(
    "options",
    [
        "--search hyperband -n 9 --ladder samples-only --rungs 2 --reduction-factor 2 --precision bfloat16 --seed 5",
        "--set size=128 --space space.toml --default learning_rate=0.01 --prior learning_rate=0.02 -n 9",
        "--sampler grid --grid-points 2 --search sweep --ladder 2:256,6:1024 -n 4 --no-defaults --horizon full",
    ],
)
def test_a_worker_makes_the_search_that_the_study_says(
    options: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "space.toml").write_text(SPACE)
    task = "tiny_task.py:make" if "--set" in options else "tiny_task.py:task"
    out = begin(capsys, options, task)
    assert "nothing was trained; on every machine: " in out
    assert everything_in(HERE) == []
    # The study holds what the file said, and needs it no more.
    (folder / "space.toml").unlink()
    code, out, err = run("worker s --workers 1 --device cpu", capsys)
    assert (code, err) == (0, "")
    assert "best: configuration " in out
    (folder / "space.toml").write_text(SPACE)
    code, _, err = run(f"tune {task} --study s --storage other.log --workers 1 --device cpu {options}", capsys)
    assert (code, err) == (0, "")
    assert everything_in(HERE) == everything_in("other.log")
    here, there = read_study(HERE, "s").terms, read_study("other.log", "s").terms
    assert (here, here.recipe, here.expected, here.has_own) == (there, there.recipe, there.expected, there.has_own)


def test_a_worker_of_a_finished_search_has_nothing_to_do(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begin(capsys)
    assert run("worker s --workers 1", capsys)[0] == 0
    before = everything_in(HERE)
    code, out, _ = run("worker s --workers 1", capsys)
    assert (code, everything_in(HERE)) == (0, before)
    assert "nothing left to do" in out
    # A command that asks for more is heard by the workers that come after.
    run("tune tiny_task.py:task --study s --for-workers -n 12", capsys)
    assert run("worker s --workers 1", capsys)[0] == 0
    assert len(everything_in(HERE)) == 12


def test_a_worker_waits_for_a_study_that_is_about_to_be_made(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frostline.store.awaiting._SECONDS_BETWEEN_LOOKS", 0.1)
    begin(capsys)
    terms = read_study(HERE, "s").terms

    def make() -> None:
        time.sleep(0.5)
        with opened("late.log") as place:
            open_study(place, "s", terms)

    making = threading.Thread(target=make)
    making.start()
    code, out, err = run("worker s --storage late.log --wait 30 --workers 1", capsys)
    making.join()
    assert (code, err) == (0, "")
    assert out.count("there is no study 's' in late.log yet: waiting for it, for up to 30 seconds\n") == 1
    assert len(everything_in("late.log")) == 9


def test_who_cannot_join_is_told_why_in_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(words: str) -> str:
        code, _, err = run(words, capsys)
        assert (code, err.count("\n")) == (1, 1), err
        return err

    assert "there is no study 's' in sqlite:///frostline.db: begin it with `frostline tune" in refused("worker s")
    assert not Path("frostline.db").exists(), "looking for a study makes no file"
    assert "there is no study 's' in x.log after 1 seconds" in refused("worker s --storage x.log --wait 1")
    assert "--wait is -1" in refused("worker s --wait -1")
    assert "ends with its process" in refused("worker s --storage :memory:")
    begin(capsys)
    (folder / "other.py").write_text(
        Path("tiny_task.py").read_text().replace("size: int = 256", "size: int = 128")
    )
    refusal = refused("worker s --task other.py:task")
    assert "the study 's' was made with data" in refusal
    assert "have the same task file, options and data on every machine" in refusal
    change_recipe(version="0.1.0")
    assert f"begun by frostline 0.1.0, and this is {frostline.__version__}: install that" in refused("worker s")
    change_recipe(recipe=None)
    assert "does not say how its search is made" in refused("worker s")
    assert everything_in(HERE) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": -1.5},
        {"search": {"budget": "lots"}},
        {"search": {"nonsense": 1}},
        {"search": 3},
        {"ladder": {"search": "halvin"}},
        {"sampling": {"sampler": ["random"]}},
        {"task": {"name": 3}},
        {"space": 7},
        {"more": True},
    ],
)
def test_a_damaged_recipe_is_one_line(
    changes: dict[str, Any], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(capsys)
    change_recipe(**changes)
    code, _, err = run("worker s", capsys)
    assert code == 1
    assert err.startswith("frostline: what the study 's' says of its search is damaged: give it anew with")
    assert err.count("\n") == 1


def test_a_study_says_of_no_file_but_ones_own_that_it_is_run(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(capsys)
    told = folder / "told"
    hidden = folder / ".venv" / "site-packages"
    hidden.mkdir(parents=True)
    for place in (folder.parent / "evil.py", hidden / "evil.py"):
        place.write_text(f"import pathlib\npathlib.Path({str(told)!r}).touch()\n")
    task = read_study(HERE, "s").terms.recipe["task"]  # type: ignore[index]
    for name in (f"{folder.parent}/evil.py", "../evil.py:task", "x/../../evil.py", ".venv/site-packages/evil.py"):
        change_recipe(task={**task, "name": name})
        code, _, err = run("worker s", capsys)
        assert code == 1
        assert "which is no file below this folder: say with --task which file to run" in err
    assert not told.exists()
    change_recipe(task={**task, "name": "gone.py:task"})
    code, _, err = run("worker s", capsys)
    assert (code, "there is no such file in" in err) == (1, True)
    # From another folder the file is named.
    monkeypatch.chdir(folder.parent)
    words = f"worker s --storage 'sqlite:///{folder}/frostline.db' --workers 1"
    assert run(words, capsys)[0] == 1
    code, _, err = run(f"{words} --task '{folder}/tiny_task.py:task'", capsys)
    assert (code, err) == (0, "")


def test_the_path_of_a_task_is_kept_from_where_the_search_began(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(capsys, task=f"'{folder}/tiny_task.py:task'")
    assert read_study(HERE, "s").terms.recipe["task"]["name"] == "tiny_task.py:task"  # type: ignore[index]
    code, _, err = run("worker s --workers 1", capsys)
    assert (code, err) == (0, "")


def test_two_versions_of_a_task_are_not_searched_at_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begin(capsys)
    stored = read_study(HERE, "s")
    with (folder / "tiny_task.py").open("a") as file:
        file.write("\n# mended\n")
    with opened(HERE) as place:
        other = SearchStudy.open(place, "s", terms=stored.terms, space=tiny_task.task.space)
        code, _, err = run("worker s --workers 1", capsys)
        assert code == 1
        assert "is searched with another version of the task's file, by process" in err
        other.close()
    # Where nobody is at work it may have been mended.
    code, _, err = run("worker s --workers 1", capsys)
    assert (code, err) == (0, "")
    assert read_study(HERE, "s").terms.source != stored.terms.source


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--ladder auto", "--ladder auto makes an audit first: run `frostline audit TASK`"),
        ("--storage :memory:", "give another --storage than :memory:"),
    ],
)
def test_what_workers_cannot_be_left_is_refused(
    words: str, message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(f"tune tiny_task.py --for-workers {words}", capsys)
    assert (code, message in err) == (1, True)


def test_a_signal_whose_exception_is_lost_ends_the_search_with_the_next_step() -> None:
    stopping = Stopping()
    progress = Progress(rung=0, members=1, engine=None, started=0, samples=1, budget=2)
    stopping.progressed(progress)
    with pytest.raises(KeyboardInterrupt):
        stopping.terminate(15, None)
    for step in (lambda: stopping.progressed(progress), lambda: stopping.started([])):
        with pytest.raises(KeyboardInterrupt):
            step()


def test_the_process_handles_the_signal_as_before_once_a_worker_is_done() -> None:
    import signal

    before = signal.getsignal(signal.SIGTERM)
    with stopping_when_terminated() as stopping:
        assert signal.getsignal(signal.SIGTERM) == stopping.terminate
    assert signal.getsignal(signal.SIGTERM) == before


def test_interrupted_it_says_how_to_go_on(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(capsys)
    monkeypatch.setattr(Stopping, "ended", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(SystemExit) as ended:
        main(["worker", "s", "--workers", "1"])
    assert ended.value.code == 130
    assert "go on with: " in (err := capsys.readouterr().err)
    assert err.endswith("worker s --workers 1\n")
