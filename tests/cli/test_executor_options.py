"""``--executor`` and ``--address``: what is none is refused before anything is trained."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cli.command_line import run

TINY = f"{Path(__file__).parents[1] / 'tiny_task.py'}:task"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--executor dask", r"--executor is 'dask', but must be local or ray\."),
        ("--address 10.0.0.1:6379", r"--address 10.0.0.1:6379 is that of a cluster: add --executor ray\."),
        ("--executor ray --address 127.0.0.1:9", r"nobody answers at '127.0.0.1:9' \(.*\): start a cluster there"),
        ("--executor ray --address nowhere", r"address is 'nowhere', but must be auto, local or HOST:PORT\."),
    ],
)
def test_bad_input_is_one_line(
    words: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = run(f"tune {TINY} {words}", capsys)
    assert code == 1
    assert re.search(message, err)
    assert err.strip().count("\n") <= 1
