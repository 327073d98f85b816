"""The driver's half on a cluster that is only played: who dies, who joins, who is crowded, and what becomes of the jobs."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

import frostline
from frostline.errors import NotEnoughMemoryError, OptionError
from frostline.integrations.ray import cluster_executor
from frostline.integrations.ray.cluster_executor import ClusterExecutor
from frostline.integrations.ray.node_shares import PROCESS_BYTES, Node, NodeShares
from frostline.integrations.ray.ray_cluster import how_it_ended
from frostline.integrations.ray.ray_worker import Crowded, Order
from frostline.integrations.ray.requirements import Requirements
from frostline.records import Configuration, Evaluation, Fidelity, Job, Request, Station, Status
from frostline.run.execution.second_chances import WorkerError
from frostline.run.execution.side_worker import Unable
from frostline.run.execution.workload import Workload
from frostline.training.black_box import BlackBox
from tests.executing import evaluations_by
from tests.integrations.ray.fake_cluster import FakeCluster, FakeWorker, GoneError, trained
from tests.run.execution.test_workload import kept_in, two_kept

LADDER = frostline.Ladder.explicit([(2, 256), (6, 1024)], num_layers=6, full_samples=1024)
MIB = 2**20
NEEDS = {2: 100 * MIB, 6: 1000 * MIB}


def node(name: str, memory_mib: int, *, cores: int = 1) -> Node:
    return Node(
        identity=name,
        name=name,
        num_cores=cores,
        memory_bytes=memory_mib * MIB + cores * PROCESS_BYTES,
        num_gpus=0,
    )


WORKLOAD = Workload(training=BlackBox(train=lambda c, f: 0.0, root_seed=0), ladder=LADDER)


def executor_on(cluster: FakeCluster, workload: Workload = WORKLOAD) -> ClusterExecutor:
    requirements = Requirements(ladder=LADDER, name="tiny", bytes_by_layers=NEEDS)
    executor = ClusterExecutor(
        cluster=cluster,  # type: ignore[arg-type]
        workload=workload,
        work=b"",
        shares=NodeShares(requirements=requirements),
    )
    executor.begin(cluster.nodes())
    return executor


def job(number: int, *, layers: int = 2) -> Job:
    fidelity = Fidelity(trainable_layers=layers, samples=256 if layers == 2 else 1024)
    configuration = Configuration(number=number, hyperparameters={})
    return Job(configuration=configuration, rung=int(layers == 6), fidelity=fidelity)


def numbers(evaluations: Iterable[Evaluation]) -> list[int]:
    return sorted(evaluation.number for evaluation in evaluations)


def test_what_gets_no_further_is_forgotten_where_the_nodes_write(tmp_path: Path) -> None:
    workload = two_kept(tmp_path)
    executor_on(FakeCluster([node("large", 1500)]), workload).forget(1)
    assert kept_in(tmp_path) == [0]


def test_a_node_is_cut_as_its_rungs_need() -> None:
    cluster = FakeCluster([node("small", 300, cores=2), node("large", 1500, cores=4)])
    executor_on(cluster)
    sizes = [(worker.share.node, worker.share.memory_bytes // MIB) for worker in cluster.workers]
    assert sizes == [
        ("small", 150),
        ("small", 150),
        ("large", 1000),
        ("large", 166),
        ("large", 166),
        ("large", 166),
    ]
    assert [worker.plan.trainable_layers for worker in cluster.workers] == [2, 2, 6, 2, 2, 2]
    assert all(
        worker.share.reserved_bytes == worker.share.memory_bytes + PROCESS_BYTES for worker in cluster.workers
    )


def test_a_rung_that_fits_nowhere_is_refused_before_anything_starts() -> None:
    cluster = FakeCluster([node("small", 900), node("smaller", 300)])
    with pytest.raises(
        NotEnoughMemoryError,
        match=r"^rung 1 of tiny \(6 layers\) needs 1000 MiB, and the largest share of the cluster, on small, has",
    ):
        executor_on(cluster)
    assert not cluster.workers
    with pytest.raises(
        NotEnoughMemoryError, match=r"^rung 0 .*, and no node of the cluster has a core and so much"
    ):
        executor_on(FakeCluster([]))


def test_a_crowded_share_is_narrowed_and_another_takes_its_jobs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def train(worker: FakeWorker, order: Order) -> Iterable[Any]:
        if worker.share.node == "crowded" and order.needed_bytes > 500 * MIB:
            return [Crowded(jobs=order.jobs, free_bytes=500 * MIB)]
        return trained(worker, order)

    cluster = FakeCluster([node("crowded", 1000), node("roomy", 1100)], train=train)
    executor = executor_on(cluster)
    assert numbers(evaluations_by(executor, [job(0, layers=6), job(1, layers=6), job(2)])) == [0, 1, 2]
    assert "the node crowded has 500 MiB free of the 1000 MiB that it promised" in caplog.text
    cluster.kill_node(cluster.there[1])
    executor.submit([job(3, layers=6)])
    monkeypatch.setattr(cluster_executor, "_SECONDS_WITHOUT_HOPE", 0.0)
    with pytest.raises(
        NotEnoughMemoryError, match=r"^rung 1 of tiny \(6 layers\) needs 1000 MiB, and the largest"
    ):
        executor.next_ended()


def test_it_tells_which_share_trains_what() -> None:
    seen: list[list[Station]] = []

    def train(worker: FakeWorker, order: Order) -> Iterable[Any]:
        seen.append([*executor.stations()])
        return trained(worker, order)

    executor = executor_on(FakeCluster([node("small", 200), node("large", 1100)], train=train))
    assert [(one.host, one.requests, one.since) for one in executor.stations()] == [
        ("small", (), None),
        ("large", (), None),
    ]
    assert numbers(evaluations_by(executor, [job(0), job(1, layers=6)])) == [0, 1]
    told = {(one.host, one.requests) for stations in seen for one in stations if one.since is not None}
    assert ("large", (Request(1, 1),)) in told
    assert ("small", (Request(0, 0),)) in told
    assert {one.promised_bytes for one in seen[0]} == {200 * MIB, 1100 * MIB}


def test_workers_that_never_begin_are_tried_less_and_less_and_not_for_ever(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = FakeCluster([node("bad", 1000), node("good", 1000)])
    start = cluster.start

    def stillborn(share: Any, work: bytes, plan: Any) -> FakeWorker:
        worker = start(share, work, plan)
        worker.is_alive = share.node != "bad"
        return worker

    monkeypatch.setattr(cluster, "start", stillborn)
    executor = executor_on(cluster)
    assert numbers(evaluations_by(executor, [job(number) for number in range(200)])) == [*range(200)]
    assert "workers on bad end before they begin: the next one in 4 s" in caplog.text
    assert sum(worker.share.node == "bad" for worker in cluster.workers) == 2
    cluster.kill_node(cluster.there[1])
    executor.submit([job(200)])
    monkeypatch.setattr(cluster_executor, "_SECONDS_WITHOUT_HOPE", 0.0)
    monkeypatch.setattr(cluster_executor, "_SECONDS_BETWEEN_LOOKS", 0.01)
    with pytest.raises(WorkerError, match="no node of the cluster is left that trains"):
        executor.next_ended()
    executor.close()
    assert cluster.has_left


class OutOfMemoryError(Exception):
    """As Ray names it."""


@pytest.mark.parametrize(
    ("error", "how"),
    [
        (GoneError("The actor is dead because its worker process has died. (1) the OOM killer"), "without a word"),
        (GoneError("The actor is dead because its\n node has died."), "with its node"),
        (
            OutOfMemoryError("Task was killed due to the node running low on memory."),
            "for lack of memory on its node",
        ),
    ],
)
def test_how_a_worker_ended_is_said_in_a_few_words(error: Exception, how: str) -> None:
    assert how_it_ended(error) == how


def test_who_joins_is_given_work_or_told_why_not(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cluster_executor, "_SECONDS_BETWEEN_LOOKS", 0.0)
    caplog.set_level(logging.INFO)
    cluster = FakeCluster([node("first", 1000)])
    executor = executor_on(cluster)
    cluster.refusals["old"] = "the node old has frostline 0.0."
    cluster.there += [node("second", 1000), node("old", 1000)]
    assert numbers(evaluations_by(executor, [job(number) for number in range(40)])) == [*range(40)]
    assert {worker.share.node for worker in cluster.workers} == {"first", "second"}
    assert "the node old has frostline 0.0. It takes no part." in caplog.text
    with pytest.raises(OptionError, match=r"^the node old has frostline 0\.0\.$"):
        executor_on(cluster)


def test_a_node_that_cannot_load_the_task_is_left_out_where_another_can(caplog: pytest.LogCaptureFixture) -> None:
    cluster = FakeCluster([node("good", 1000), node("bare", 1000)])
    executor = executor_on(cluster)
    cluster.workers[1].messages[0] = Unable("ModuleNotFoundError: no module named 'theirs'")
    assert numbers(evaluations_by(executor, [job(number) for number in range(9)])) == [*range(9)]
    assert "the node bare cannot train this task (ModuleNotFoundError: " in caplog.text
    cluster.workers[0].messages.append(Unable("ObjectiveError: a score is a number"))
    executor.submit([job(9)])
    with pytest.raises(WorkerError, match=r"^the node good cannot train this task \(ObjectiveError: .*\)\.$"):
        [executor.next_ended() for _ in range(2)]


def test_a_task_that_no_node_can_load_ends_the_search() -> None:
    cluster = FakeCluster([node("only", 1000)])
    executor = executor_on(cluster)
    cluster.workers[0].messages[0] = Unable("ModuleNotFoundError: no module named 'theirs'")
    executor.submit([job(0)])
    with pytest.raises(WorkerError, match=r"^the node only cannot train this task \(ModuleNotFoundError: .*\)\.$"):
        executor.next_ended()


@pytest.mark.parametrize("seed", range(5))
def test_whoever_dies_nothing_is_lost_and_nothing_comes_twice(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty deaths of workers and nodes, nodes that join, and a job that kills whoever trains it."""
    monkeypatch.setattr(cluster_executor, "_SECONDS_BETWEEN_LOOKS", 0.0)
    random, names = Random(seed), iter(range(10_000))
    num_deaths, deadly = 0, 7

    def train(worker: FakeWorker, order: Order) -> Iterable[Any]:
        nonlocal num_deaths
        if any(each.configuration.number == deadly for each in order.jobs):
            cluster.kill(worker)
            return []
        # Two deaths in a row would set somebody aside.
        if num_deaths < 40 and not executor.num_suspects:
            num_deaths += 1
            if random.random() < 0.3:
                there = next(each for each in cluster.there if each.identity == worker.share.node)
                cluster.kill_node(there)
                cluster.there.append(replace(there, identity=f"{next(names)}"))
            else:
                cluster.kill(worker)
            # It may have ended some of them before.
            return [] if random.random() < 0.5 else [*trained(worker, order)][:1]
        return trained(worker, order)

    cluster = FakeCluster([node(f"{memory}", memory) for memory in (150, 400, 1000, 2000)], train=train)
    executor = executor_on(cluster)
    jobs = [job(number, layers=6 if number % 4 == 0 else 2) for number in range(3000)]
    ended = [*evaluations_by(executor, jobs)]
    assert numbers(ended) == [*range(3000)]
    failed = [evaluation for evaluation in ended if evaluation.status is Status.FAILED]
    assert [evaluation.number for evaluation in failed] == [deadly]
    assert failed[0].reason == "the process that trained it ended without a word, and did so twice"
    assert num_deaths == 40
