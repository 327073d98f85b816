"""Nodes of a Ray cluster that share nothing but a bucket: they write and read there themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from frostline.errors import ModelError, OptionError
from frostline.integrations import RayExecutor
from frostline.integrations.ray.node_shares import PROCESS_BYTES
from tests.folders.object_store import objects, s3_server
from tests.integrations.ray.ray_tasks import everything, search
from tests.run import side_tasks

pytest.importorskip("ray", reason="Ray is not installed")
from tests.integrations.ray.test_ray_executor import MIB, cluster_of, node

pytestmark = [pytest.mark.multiprocess, pytest.mark.slow, pytest.mark.xdist_group("ray")]


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, str]]:
    with s3_server() as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield environment


@pytest.fixture(scope="module")
def cluster(s3: dict[str, str]) -> Iterator[Any]:
    with cluster_of(PROCESS_BYTES + 100 * MIB, PROCESS_BYTES + 100 * MIB) as cluster:
        yield cluster


def test_a_search_on_a_cluster_keeps_all_that_it_keeps_in_the_bucket(
    cluster: Any, s3: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    there = search(tmp_path, executor=RayExecutor(address=cluster.address), runs="s3://bucket/ray")
    here = search(tmp_path)
    # The samples of each with them: those of a rung above are what goes on from the checkpoint of the one below.
    assert everything(there) == everything(here)
    assert {each.cost.samples for each in there.history.evaluations() if each.request.rung == 1} == {256}
    assert {Path(key).suffix or Path(key).name[:17] for key in objects(s3, "ray/")} == {
        ".safetensors",
        ".frostline-shared",
    }
    assert not (tmp_path / "frostline-runs").exists()
    kept, expected = (
        result.load_model(side_tasks.network(result.configuration)).state_dict() for result in (there, here)
    )
    assert all(kept[name].equal(expected[name]) for name in expected)
    with pytest.raises(ModelError, match="no file of this machine"):
        _ = there.weights


def test_a_node_that_sees_another_bucket_of_the_same_name_is_refused(cluster: Any, tmp_path: Path) -> None:
    with s3_server() as elsewhere:
        bad = cluster.add_node(**node(PROCESS_BYTES + 100 * MIB, env_vars={**elsewhere}))
        try:
            with pytest.raises(
                OptionError, match=r"the folder 's3://bucket/two' is not shared: the node .* does not see what"
            ):
                search(tmp_path, executor=RayExecutor(address=cluster.address), runs="s3://bucket/two")
        finally:
            cluster.remove_node(bad)
