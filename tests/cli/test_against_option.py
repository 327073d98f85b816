"""`frostline tune --against`: the front that it prints, what goes on, and that wrong words are one line before torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from frostline.store.reading import read_study
from tests.cli.command_line import run

WIDE = f"{Path(__file__).parents[1] / 'wide_task.py'}:task"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_search_against_bytes_from_start_to_finish(capsys: pytest.CaptureFixture[str]) -> None:
    tune = f"tune {WIDE} --study s --configurations 9 --device cpu --threads 1 --ladder 1:32,4:256"
    code, out, err = run(f"{tune} --against bytes", capsys)
    assert (code, err) == (0, "")
    front = table_of(out)
    assert front
    assert read_study("sqlite:///frostline.db", "s").terms.against == "bytes"
    for command in ("status s", "best s"):
        code, shown, _ = run(command, capsys)
        assert code == 0
        assert table_of(shown) == front
    # The last of the front is the smallest.
    last = front[-1].split()[0]
    code, out, _ = run(f"best s --member {last}", capsys)
    assert f"configuration {last}, score" in out
    assert "front:" not in out
    code, out, _ = run(f"best s --member {last} --json", capsys)
    assert json.loads(out)["width"] == int(front[-1].split()[-1])
    code, out, _ = run(f"best s --member {last} --weights small.safetensors", capsys)
    assert (code, Path("small.safetensors").is_file()) == (0, True)
    code, _, err = run("best s --member 99", capsys)
    assert code == 1
    assert "--member 99 is not of the front of 's', which has " in err
    # Gone on with without a word it stays as it was; under another it is refused.
    code, out, err = run(tune, capsys)
    assert (code, err) == (0, "")
    assert "as the study was begun: against bytes" in out
    assert table_of(out) == front
    code, _, err = run(f"{tune} --against flops", capsys)
    assert code == 1
    assert "the study 's' was made with against 'bytes', and this run has 'flops': use another study name" in err
    assert len(err.splitlines()) == 1


def table_of(text: str) -> list[str]:
    """The rows of the front's table."""
    words = text.partition("front: ")[2]
    assert "no other beats in both score and bytes of the model" in words
    heading, *lines = words.splitlines()[1:]
    assert heading.split() == ["configuration", "score", "bytes", "learning_rate", "width"]
    rows = []
    for line in lines:
        if len(line.split()) != 6 or not line.split()[0].isdecimal():
            break
        rows.append(" ".join(line.split()))
    return rows


WRONG = {
    "--against byts": "--against is 'byts', but must be one of bytes, flops, seconds. Did you mean bytes?",
    "--against bytes --sampler cmaes": "the sampler cmaes knows one score: leave out what is searched against it, or use",
    "--against flops --align auto": "--against flops does not go with --align auto, which is about the score alone",
    "--against flops --ladder auto": "--against flops does not go with --ladder auto, which is about the score alone",
}


@pytest.mark.multiprocess
def test_what_does_not_go_together_is_a_line_before_torch_is_loaded() -> None:
    code = (
        "import sys, frostline.__main__, frostline.cli.main as cli\n"
        f"for words in {[*WRONG]!r}:\n"
        "    try:\n"
        f"        cli.main(['tune', {WIDE!r}, *words.split()])\n"
        "    except SystemExit as ended:\n"
        "        print(ended.code, 'torch' in sys.modules)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ended.stdout.splitlines() == ["1 False"] * len(WRONG)
    assert len(ended.stderr.splitlines()) == len(WRONG)
    for line, words in zip(ended.stderr.splitlines(), WRONG.values(), strict=True):
        assert words in line
