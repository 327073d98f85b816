"""Pins: what must not change while the code is moved. ``python -m pytest tests/golden --renew`` writes them anew."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.golden.golden_files import GoldenFiles


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--renew", action="store_true", help="write the golden files anew instead of comparing with them"
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--renew", default=False) and os.environ.get("CI", "").lower() in ("true", "1"):
        raise pytest.UsageError("--renew: golden files are renewed by hand and looked at, never where CI runs.")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> GoldenFiles:
    """The golden files. Where all tests are run the option is unknown: only this folder's own runs can renew."""
    return GoldenFiles(renew=request.config.getoption("--renew", default=False))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums are made in one order whatever the number of cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the test's own to run in, and a terminal of one width in which the environment is active."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("COLUMNS", "120")
    return tmp_path
