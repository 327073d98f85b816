"""``frostline reproduce``: what it prints and writes, and that bad input is one line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from frostline.research.reproduction import workbench
from tests.cli.command_line import run
from tests.research.reproduction.recipes import micro


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a-file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "tiny").touch()
    return tmp_path


def test_the_list_names_every_figure(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run("reproduce --list", capsys)
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 18
    assert re.search(r"^table3 +the diagonal climb", out, re.MULTILINE)


def test_a_figure_is_made_printed_and_written(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(workbench.Workbench.__init__.__kwdefaults__, "recipes", micro)
    code, out, err = run("reproduce fig7 --out there --device cpu", capsys)
    assert (code, err) == (0, "")
    assert "tiny resnet: 18 of 18 trainings" in out
    assert "quite high" in out
    assert "fig7.csv, fig7.html" in out
    assert {path.name for path in (folder / "there" / "tiny").iterdir()} == {
        "fig7.csv",
        "fig7.html",
        "landscape-resnet.csv.gz",
    }
    code, out, _ = run("reproduce fig7 --out there --device cpu", capsys)
    assert code == 0
    assert "trainings" not in out
    code, out, _ = run("reproduce fig7 --table resnet=there/tiny/landscape-resnet.csv.gz --out other", capsys)
    assert code == 0
    assert not (folder / "other" / "reproduction.db").exists()


def test_a_plan_runs_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run("reproduce fig6b --scale paper --plan", capsys)
    assert (code, err) == (0, "")
    assert "64 configurations, one in 4 promoted" in out
    assert not (folder / "frostline-reproduction").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", r"which figure\? Name one"),
        ("fig1", r"no figure 'fig1': choose one of fig2-left"),
        ("fig4 --scale huge", r"--scale is 'huge', but must be one of tiny, small, paper"),
        ("fig4 --scale paper", r"text-gpt, whose data are not here: say where, with --text PATH"),
        ("fig7 --scale paper", r"whose data are not here: say where, with --images FOLDER"),
        ("fig4 --table gpt", r"--table 'gpt': write MODEL=FILE, MODEL one of gpt, gpt-20"),
        ("fig4 --table gtp=x.csv", r"--table 'gtp=x.csv'"),
        ("fig11 --table gpt=none.csv", r"there is no file none.csv"),
        ("fig4 --out full", r"full/tiny/fig4.csv cannot be written"),
        ("fig4 --out a-file", r"--out a-file: this is a file"),
        ("fig3 --device tpu", r"device is 'tpu'"),
    ],
)
def test_bad_input_is_one_line(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(f"reproduce {words}", capsys)
    assert code == 1
    assert re.search(message, err), err
    assert err.count("\n") == 1
