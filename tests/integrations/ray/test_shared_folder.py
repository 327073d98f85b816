"""Whether two machines see one folder: by a token that the driver leaves in it."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import pytest

from frostline.errors import OptionError
from frostline.folders.places import folder_at
from frostline.integrations.ray.ray_cluster import _question
from frostline.integrations.ray.shared_folder import token_in, token_seen
from tests.folders.test_folders import put
from tests.folders.troubled import Troubled


@pytest.fixture
def troubled() -> str:
    fsspec.register_implementation("troubled", Troubled, clobber=True)
    Troubled.reset()
    return "troubled://me:hunter2-pass@host/runs"


@pytest.mark.parametrize("kind", ["path", "url"])
def test_the_token_of_a_folder_stays_the_same(kind: str, tmp_path: Path) -> None:
    folder, other = (
        folder_at(tmp_path / name if kind == "path" else f"memory://{uuid4().hex}") for name in ("runs", "other")
    )
    with pytest.raises(FileNotFoundError):
        token_seen(folder, "one")
    token = token_in(folder)
    assert token_in(folder) == token == token_seen(folder, token)
    assert token_seen(folder, "one") == token != token_in(other)


def test_drivers_that_begin_at_once_each_find_their_own() -> None:
    folder = folder_at(f"memory://{uuid4().hex}")
    for token in ("one", "two"):
        put(folder, f".frostline-shared-{token}", b"")
    assert [token_seen(folder, token) for token in ("one", "two", "three")] == ["one", "two", "one"]


def test_a_folder_that_cannot_be_written_is_a_line(troubled: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        OptionError, match=r"file cannot be written \((File exists|Not a directory)\): name another"
    ):
        token_in(folder_at(tmp_path / "file"))
    Troubled.refused.add("put")
    with pytest.raises(OptionError, match=r"^troubled://me@host/runs cannot be written \(.*Denied to \*\*\*@host"):
        token_in(folder_at(troubled))


def test_a_node_says_why_it_sees_nothing(troubled: str) -> None:
    folder = folder_at(troubled)
    token = token_in(folder)

    def told() -> dict[str, Any]:
        return _question()(pickle.dumps(folder), token)

    assert (told()["token"], told()["trouble"]) == (token, "")
    Troubled.refused.add("ls")
    assert told()["token"] is None
    assert told()["trouble"] == (
        "nothing can be read from troubled://me@host/runs ([Errno 13] Denied to ***@host: ls)"
    )
