"""Trials that take several devices of a node, which processes of their own train on."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

import frostline
from frostline.errors import OptionError
from frostline.integrations import RayExecutor
from frostline.integrations.ray.node_shares import PROCESS_BYTES, Node, NodeShares
from frostline.integrations.ray.requirements import Requirements
from frostline.search.ladder import Ladder
from tests.integrations.ray.ray_tasks import LADDER, everything

GIB = 2**30


def shares(node: Node, **options: Any) -> list[tuple[float, int]]:
    """The GPUs and cores of each share of a node."""
    division = NodeShares(requirements=Requirements(ladder=LADDER, name="own"), **options)
    return [(share.gpus, share.cores) for share in division.of(node, gpu_bytes=80 * GIB)]


def node(cores: int, gpus: int = 0) -> Node:
    memory = 8 * PROCESS_BYTES
    return Node(identity="a", name="a", num_cores=cores, memory_bytes=memory, num_gpus=gpus)


def test_a_share_has_whole_devices_of_one_node() -> None:
    two = {"cores_each": 2, "devices_each": 2}
    assert shares(node(5), **two) == [(0.0, 2), (0.0, 2)]
    assert shares(node(1), **two) == []
    assert shares(node(16, gpus=5), uses_gpus=True, **two) == [(2.0, 2), (2.0, 2)]
    assert shares(node(16, gpus=1), uses_gpus=True, **two) == []
    # Each of its processes has a core.
    assert shares(node(2, gpus=4), uses_gpus=True, **two) == [(2.0, 2)]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"devices_per_trial": 0}, "devices_per_trial is 0, but must be a whole number of at least 1."),
        ({"devices_per_trial": 1.5}, "devices_per_trial is 1.5, but must be a whole number of at least 1."),
        (
            {"devices_per_trial": 2, "workers_per_node": 2},
            "workers_per_node is 2, but trials of 2 devices have them to themselves: leave it out.",
        ),
    ],
)
def test_what_nobody_can_mean_is_refused_at_once(options: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError) as refused:
        RayExecutor(**options)
    assert f"{refused.value}" == said


@pytest.mark.torture
@pytest.mark.multiprocess
@pytest.mark.xdist_group("ray")
def test_a_trial_on_a_cluster_is_trained_by_two_processes_as_on_this_machine(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    lightning = pytest.importorskip("frostline.integrations.lightning")
    from tests.integrations.lightning.lightning_digits import build, loaders
    from tests.integrations.ray.test_ray_executor import cluster_of

    def search(study: str, **options: Any) -> frostline.TuneResult:
        result: frostline.TuneResult = lightning.tune(
            build,
            monitor="val_loss",
            samples=600,
            trainer={"strategy": "ddp_fork", "devices": 2, "accelerator": "cpu"},
            study=study,
            storage=":memory:",
            configurations=4,
            ladder=partial(Ladder.explicit, [(2, 200), (4, 600)]),
            runs=tmp_path / study,
            **loaders(),
            **options,
        )
        return result

    with cluster_of(2 * PROCESS_BYTES, num_cpus=2) as cluster:
        there = search("there", executor=RayExecutor(address=cluster.address, devices_per_trial=2))
        with pytest.raises(OptionError, match=r"devices_per_trial is 3, but no node .* has more than 2 cores: "):
            search("more", executor=RayExecutor(address=cluster.address, devices_per_trial=3))
    assert everything(there) == everything(search("here"))
