"""The frostline command, run in this process."""

from __future__ import annotations

import shlex

import pytest

from frostline.cli.main import main


def run(command: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Return the status of a command, and what it printed on either stream."""
    with pytest.raises(SystemExit) as ended:
        main(shlex.split(command))
    out, err = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, out, err
