"""What a search would do on a cluster, before it does: the shares of each node, and which of them hold each rung."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from frostline.integrations.ray.node_shares import Node, NodeShares, Share, largest_by_node, smallest_device
from frostline.integrations.ray.ray_cluster import RayCluster
from frostline.integrations.ray.requirements import Requirements
from frostline.sizes import format_size
from frostline.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.protocols import Task
    from frostline.search.interface import Rungs


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterPlan:
    """The nodes of a cluster, their shares, and what a task's rungs need."""

    nodes: Sequence[Node]
    shares: Sequence[Share]
    requirements: Requirements

    def lines(self, sample_unit: str) -> list[str]:
        """Return the plan for people: a line for each node, then one for each rung."""
        names = max([len("node"), *(len(node.name) for node in self.nodes)])
        lines = [f"{'node':{names}}{'cores':>7}{'GPUs':>6}{'memory':>12}  workers, and what each may train in"]
        for node in self.nodes:
            sizes = Counter(share.memory_bytes for share in self.shares if share.node == node.identity)
            workers = ", ".join(f"{number} × {format_size(size)}" for size, number in sizes.items()) or "none"
            memory = format_size(node.memory_bytes)
            lines.append(f"{node.name:{names}}{node.num_cores:>7}{node.num_gpus:>6}{memory:>12}  {workers}")
        return [*lines, "", *self._rung_lines(sample_unit)]

    def _rung_lines(self, sample_unit: str) -> list[str]:
        lines = [f"{'rung':>4}{'layers':>8}{sample_unit:>16}{'needs':>12}  begins on the smallest that is free of"]
        for number, rung in enumerate(self.requirements.ladder.rungs):
            needed = self.requirements.of_layers(rung.trainable_layers)
            holding = Counter(share.node_name for share in self.shares if share.memory_bytes >= needed)
            smallest = min(
                (share.memory_bytes for share in self.shares if share.memory_bytes >= needed), default=0
            )
            where = (
                f"{counted(holding.total(), 'worker')} on {counted(len(holding), 'node')}, from {format_size(smallest)} on"
                if holding
                else "none"
            )
            need = format_size(needed) if needed else "little"
            lines.append(f"{number:>4}{rung.trainable_layers:>8}{rung.samples:>16,}{need:>12}  {where}")
        return lines

    def check(self) -> None:
        """Raise NotEnoughMemoryError, which names it, if a rung fits nowhere."""
        self.requirements.check(largest_by_node(self.shares))


def plan_on_cluster(task: Task, ladder: Rungs, *, address: str) -> ClusterPlan:
    """Return what a search of ``task`` on ``ladder`` would do on the cluster at ``address``.

    Raises: OptionError as ``RayExecutor``.
    """
    cluster = RayCluster(address, runs=None, study=f"plan of {task.name}")
    try:
        nodes = cluster.nodes()
        requirements = Requirements.of_task(task, ladder, smallest=smallest_device(nodes))
        division = NodeShares(requirements=requirements, uses_gpus=any(node.num_gpus for node in nodes))
        answers = [cluster.ask(node) for node in nodes]
        facts = [cluster.facts(answer) for answer in answers]
        shares = [
            share
            for node, fact in zip(nodes, facts, strict=True)
            for share in division.of(node, gpu_bytes=fact.gpu_bytes)
        ]
    finally:
        cluster.leave()
    return ClusterPlan(nodes=nodes, shares=shares, requirements=requirements)
