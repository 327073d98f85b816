"""What may be said as the place of runs, and in which words it is refused."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from frostline.errors import OptionError
from frostline.folders.local_folder import LocalFolder
from frostline.folders.places import checked_folder, folder_at, local_path
from frostline.folders.remote_folder import RemoteFolder
from frostline.run.execution.options import DEFAULT_RUNS, TrainingOptions


@pytest.mark.parametrize("place", ["runs", "../a b", "/x", "C:/x", "a:b", "a://b", "s3:/bucket", Path("deep/er")])
def test_a_path_stays_a_path(place: str | Path) -> None:
    assert folder_at(place) == LocalFolder(path=Path(place))
    checked_folder(place)


def test_a_url_of_this_machine_is_its_path(tmp_path: Path) -> None:
    assert folder_at(f"file://{tmp_path}/a b") == LocalFolder(path=tmp_path / "a b")
    assert TrainingOptions(runs=f"file://{tmp_path}/runs").local_runs == tmp_path / "runs"
    (tmp_path / "file").touch()
    with pytest.raises(OptionError, match="which is a file: name a folder for the checkpoints"):
        TrainingOptions(runs=f"file://{tmp_path}/file")


def test_a_url_is_elsewhere() -> None:
    assert folder_at("MEMORY://a/B/") == RemoteFolder(url="memory://a/B")
    assert folder_at("memory://a/B").below("c").parent == folder_at("memory://a/B/")
    assert local_path("memory://a") is None
    assert TrainingOptions(runs="memory://a").local_runs == DEFAULT_RUNS


@pytest.mark.parametrize(
    ("place", "said"),
    {
        "memory://": "'memory://' names no folder: write PROTOCOL://PLACE, such as s3://bucket/folder.",
        "file://runs": "'file://runs' names no folder: write file:///PATH, with three slashes, or the path alone.",
        "memory://a::s3://b": "'memory://a:***' names no folder: write PROTOCOL://PLACE, such as s3://bucket/folder.",
        "nix://a:b@c/d": "runs is 'nix://a@c/d', but nobody knows nix://: use a path, s3://, gs://, or others of fsspec.",
    }.items(),
)
def test_what_is_no_place_is_a_line(place: str, said: str) -> None:
    with pytest.raises(OptionError) as raised:
        TrainingOptions(runs=place)
    assert f"{raised.value}" == said


def test_a_url_that_went_through_a_path_is_found_out() -> None:
    with pytest.raises(
        OptionError, match=r"Path\('s3://bucket/x'\) is no URL any more: give the text, 's3://bucket/x'"
    ):
        TrainingOptions(runs=Path("s3://bucket/x"))


@pytest.mark.parametrize(
    ("protocol", "package", "named"), [("abfs", "adlfs", "adlfs"), ("gs", "gcsfs", "'frostline[gcs]'")]
)
def test_a_package_that_is_not_there_is_named(protocol: str, package: str, named: str) -> None:
    if find_spec(package) is not None:
        pytest.skip(f"{package} is installed")
    with pytest.raises(OptionError) as raised:
        TrainingOptions(runs=f"{protocol}://bucket/x")
    assert f"{raised.value}" == (
        f"runs is '{protocol}://bucket/x', but what reads {protocol}:// is not installed: pip install {named}."
    )


@pytest.mark.multiprocess
def test_fsspec_is_loaded_for_a_url_alone() -> None:
    code = """
import sys
from frostline.folders.places import checked_folder, folder_at
checked_folder("runs"), folder_at("runs").names(), checked_folder("file:///tmp")
assert "fsspec" not in sys.modules
checked_folder("memory://a")
assert "fsspec" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
