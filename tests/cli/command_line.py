"""The frostline command, run in this process."""

from __future__ import annotations

import shlex

import optuna
import pytest

from frostline.cli.main import main
from frostline.store.backends.storage import open_storage


def run(command: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Return the status of a command, and what it printed on either stream."""
    with pytest.raises(SystemExit) as ended:
        main(shlex.split(command))
    out, err = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, out, err


def study_here(name: str) -> optuna.Study:
    """Return a study of the default storage as Optuna has it; the database is closed when nobody holds it any more."""
    return optuna.load_study(study_name=name, storage=open_storage("sqlite:///frostline.db"))
