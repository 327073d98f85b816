"""How the nodes of a cluster are divided: into shares, each with a process, cores and memory of its own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from frostline.run.execution.options import AUTO
from frostline.run.execution.placement import cut
from frostline.sizes import parse_size

if TYPE_CHECKING:
    from frostline.integrations.ray.requirements import Requirements

# What a process takes beside its training: Python, torch and the data; on a GPU its context and kernels.
PROCESS_BYTES = 300 * 2**20
_CONTEXT_BYTES = 600 * 2**20

# Ray gives away GPUs in ten-thousandths.
_PARTS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A machine of a cluster, and what may be had of it."""

    identity: str
    name: str
    """What people know it by: its address."""
    num_cores: int
    memory_bytes: int
    num_gpus: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A part of a node that trains one population at a time."""

    node: str
    """The node's identity."""
    node_name: str
    number: int
    """Among those of its node, from 0."""
    memory_bytes: int
    """For trainings."""
    reserved_bytes: int
    """Of the node's own memory, the process included."""
    cores: int
    gpus: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeShares:
    """Divides nodes for one search: into shares that hold its largest rung, and as many as cores and memory allow.

    A GPU is one share, or ``most``: alone it trains the largest population. Where a training takes several
    (``devices_each``), a share has as many, whole and of one node. Where ``memory`` is a size, trainings take no more of a
    node, or of a GPU, and the rest of it stays others'.
    """

    requirements: Requirements
    uses_gpus: bool = False
    most: int | None = None
    """How many shares a node, or a GPU, is divided into at most; None: one for each core, one for a GPU."""
    cores_each: int = 1
    devices_each: int = 1
    """How many GPUs a training takes; on the CPU these are ``cores_each``."""
    memory: str = AUTO

    def of(self, node: Node, *, gpu_bytes: int = 0) -> list[Share]:
        """Return the shares of a node, the largest first; none if it is too small for any rung."""
        return self._on_gpus(node, gpu_bytes) if self.uses_gpus else self._on_cores(node)

    def _on_cores(self, node: Node) -> list[Share]:
        slots = self._at_most(node.num_cores // self.cores_each)
        there = node.memory_bytes if self.memory == AUTO else min(node.memory_bytes, parse_size(self.memory))
        sizes = cut(there, slots, self.requirements.of_rungs, overhead_bytes=PROCESS_BYTES)
        return [
            self._share(node, number, size, reserved=size + PROCESS_BYTES) for number, size in enumerate(sizes)
        ]

    def _on_gpus(self, node: Node, gpu_bytes: int) -> list[Share]:
        there = gpu_bytes if self.memory == AUTO else min(gpu_bytes, parse_size(self.memory))
        slots = 1 if self.most is None else self.most
        sizes = cut(there, slots, self.requirements.of_rungs, overhead_bytes=_CONTEXT_BYTES)
        shares: list[Share] = []
        for _ in range(node.num_gpus // self.devices_each):
            for size in sizes:
                # Rounded up: what is promised to others is there.
                parts = -(-_PARTS * (size + _CONTEXT_BYTES) // gpu_bytes)
                # Ray gives away several at once only whole.
                gpus = min(parts, _PARTS) / _PARTS if self.devices_each == 1 else float(self.devices_each)
                shares.append(self._share(node, len(shares), size, reserved=PROCESS_BYTES, gpus=gpus))
        return shares[: max(1, node.num_cores // self.cores_each)]

    def _at_most(self, slots: int) -> int:
        return slots if self.most is None else min(slots, self.most)

    def _share(self, node: Node, number: int, size: int, *, reserved: int, gpus: float = 0.0) -> Share:
        return Share(
            node=node.identity,
            node_name=node.name,
            number=number,
            memory_bytes=size,
            reserved_bytes=reserved,
            cores=self.cores_each,
            gpus=gpus,
        )


def largest_by_node(shares: Iterable[Share]) -> dict[str, int]:
    """Return the bytes of the largest share of each node, by the node's name."""
    largest: dict[str, int] = {}
    for share in shares:
        largest[share.node_name] = max(share.memory_bytes, largest.get(share.node_name, 0))
    return largest


def smallest_device(nodes: Iterable[Node]) -> int:
    """Return the least bytes that any of ``nodes`` has for a worker, before they are asked of their GPUs; 0 without any."""
    return max(0, min((node.memory_bytes for node in nodes), default=0) - PROCESS_BYTES)
