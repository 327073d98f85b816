from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from frostline.folders.folder import Folder
from frostline.folders.places import folder_at
from tests.folders.object_store import s3_server


@pytest.fixture(scope="session")
def s3() -> Iterator[dict[str, str]]:
    """The environment in which s3://bucket is there."""
    with s3_server() as environment:
        yield environment


@pytest.fixture
def in_s3(s3: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    return s3


@pytest.fixture(params=["path", "file", "memory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A place that nobody else has, of each kind; nothing is there."""
    own = uuid4().hex
    if request.param == "s3":
        request.getfixturevalue("in_s3")
    places = {"path": tmp_path / own, "file": f"file://{tmp_path}/{own}", "memory": f"memory://{own}"}
    return places.get(request.param, f"s3://bucket/{own}")


@pytest.fixture
def folder(place: Any) -> Folder:
    return folder_at(place)
