"""A cluster in this process: nodes and workers that do what they are told, at once, and die when they are killed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from frostline.integrations.ray.node_shares import Node, Share
from frostline.integrations.ray.ray_cluster import NodeFacts
from frostline.integrations.ray.ray_worker import Order, SharePlan
from frostline.records import Cost, Evaluation, Job, Status
from frostline.run.execution.side_worker import Ready

FACTS = NodeFacts(versions={}, token=None, gpu_bytes=0)


class GoneError(Exception):
    """Whoever was to tell something is gone."""


@dataclass(eq=False)
class Reference:
    """What a worker or a node tells next."""

    told_by: Callable[[], Any]
    is_ready: Callable[[], bool]


@dataclass(eq=False)
class FakeWorker:
    share: Share
    plan: SharePlan
    train: Callable[[FakeWorker, Order], Iterable[Any]]
    messages: deque[Any] = field(default_factory=lambda: deque([Ready()]))
    is_alive: bool = True

    def __post_init__(self) -> None:
        self.submit, self.hear = Method(self._submit), Method(self._hear)

    def _submit(self, order: Order) -> None:
        self.messages.extend(self.train(self, order))

    def _hear(self) -> Reference:
        return Reference(told_by=self._told, is_ready=lambda: bool(self.messages) or not self.is_alive)

    def _told(self) -> list[Any]:
        if not self.is_alive:
            raise GoneError("its process has ended")
        messages = [*self.messages]
        self.messages.clear()
        return messages


@dataclass
class Method:
    """As an actor has them."""

    remote: Callable[..., Any]


def trained(worker: FakeWorker, order: Order) -> Iterable[Evaluation]:
    """One evaluation for each job."""
    return [evaluation_of(job) for job in order.jobs]


def evaluation_of(job: Job) -> Evaluation:
    return Evaluation(
        number=job.configuration.number,
        rung=job.rung,
        fidelity=job.fidelity,
        status=Status.FINISHED,
        score=float(job.configuration.number),
        cost=Cost(seconds=1.0, samples=job.fidelity.samples),
    )


class FakeCluster:
    """See ``RayCluster``. ``train`` says what workers tell of an order; a node named in ``refusals`` cannot take part."""

    error = GoneError

    def __init__(
        self, nodes: Sequence[Node], *, train: Callable[[FakeWorker, Order], Iterable[Any]] = trained
    ) -> None:
        self.there = [*nodes]
        self.train = train
        self.refusals: dict[str, str] = {}
        self.workers: list[FakeWorker] = []
        self.has_left = False

    def nodes(self) -> list[Node]:
        return [*self.there]

    def put(self, work: bytes) -> bytes:
        return work

    def ask(self, node: Node) -> Reference:
        return Reference(told_by=lambda: FACTS, is_ready=lambda: True)

    def facts(self, answer: Reference) -> Any:
        return answer.told_by()

    def why_not(self, node: Node, facts: NodeFacts) -> str | None:
        return self.refusals.get(node.name)

    def start(self, share: Share, work: bytes, plan: SharePlan) -> FakeWorker:
        worker = FakeWorker(share, plan, self.train)
        self.workers.append(worker)
        return worker

    def ready(self, references: Sequence[Reference], *, seconds: float) -> list[Reference]:
        return [reference for reference in references if reference.is_ready()]

    def told(self, reference: Reference) -> Any:
        return reference.told_by()

    def end(self, workers: Iterable[FakeWorker]) -> None:
        for worker in workers:
            worker.is_alive = False

    def leave(self) -> None:
        self.has_left = True

    def kill(self, worker: FakeWorker) -> None:
        worker.is_alive = False

    def kill_node(self, node: Node) -> None:
        self.there.remove(node)
        for worker in self.workers:
            if worker.share.node == node.identity:
                self.kill(worker)
