"""How programs are called from where the user stands."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from frostline.run.installed_programs import frostline_program, program


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a virtual environment in it, which is not active."""
    folder = tmp_path / "my project" / ".venv" / "bin"
    folder.mkdir(parents=True)
    for name in ("python", "frostline"):
        (folder / name).touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "elsewhere"))
    monkeypatch.chdir(folder.parents[1])
    return folder


def test_where_it_is_found_its_name_is_enough(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(environment))
    assert frostline_program() == "frostline"


def test_else_it_is_named_by_its_path_from_here_or_in_full(
    environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert frostline_program() == ".venv/bin/frostline"
    monkeypatch.chdir("/")
    assert frostline_program() == f"'{environment / 'frostline'}'" or str(environment)[1:] in frostline_program()


def test_another_environments_program_is_not_taken_for_this_ones(
    environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "frostline").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(other))
    assert frostline_program() == ".venv/bin/frostline"
    # What one installs for oneself is a link into the environment.
    (other / "frostline").unlink()
    (other / "frostline").symlink_to(environment / "frostline")
    assert frostline_program() == "frostline"


def test_what_is_not_installed_is_not_named(environment: Path) -> None:
    assert program("optuna-dashboard") is None
    (environment / "frostline").unlink()
    assert frostline_program() == f"'{environment / 'python'}' -m frostline"
