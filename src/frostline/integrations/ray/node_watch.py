"""Who is in a cluster, and who of them can take part: each node is asked once, when it is first seen."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from frostline.errors import OptionError

if TYPE_CHECKING:
    from frostline.integrations.ray.node_shares import Node, NodeShares, Share
    from frostline.integrations.ray.ray_cluster import RayCluster

logger = logging.getLogger(__name__)


class NodeWatch:
    """Asks nodes of ``cluster``, and divides those that can take part as ``shares`` says."""

    def __init__(self, cluster: RayCluster, shares: NodeShares) -> None:
        self._cluster = cluster
        self._shares = shares
        self._known: set[str] = set()
        self._asked: dict[Any, Node] = {}

    @property
    def answers(self) -> list[Any]:
        """What nodes that were asked are going to answer."""
        return [*self._asked]

    def look(self) -> set[str]:
        """Return the identities of all nodes that are there; those that are new are asked."""
        nodes = self._cluster.nodes()
        self.ask([node for node in nodes if node.identity not in self._known])
        return {node.identity for node in nodes}

    def ask(self, nodes: Sequence[Node]) -> None:
        """Ask ``nodes`` what they have."""
        for node in nodes:
            self._known.add(node.identity)
            self._asked[self._cluster.ask(node)] = node

    def joined(self, answer: Any) -> list[Share]:
        """Return the shares of a node that has joined a search and answered; none, and say why, if it cannot take part."""
        node = self._asked[answer]
        try:
            shares = self.shares_of(answer)
        except OptionError as error:
            logger.warning("%s It takes no part.", error)
            return []
        if shares:
            logger.info("the node %s has joined", node.name)
        return shares

    def shares_of(self, answer: Any) -> list[Share]:
        """Return the shares of a node that was asked; none if it is gone. Raises: OptionError if it cannot take part."""
        node = self._asked.pop(answer)
        try:
            facts = self._cluster.facts(answer)
        except self._cluster.error as error:
            reason = f"{type(error).__name__}: {' '.join(f'{error}'.split())[:200]}"
            logger.warning("the node %s does not answer, and takes no part (%s)", node.name, reason)
            return []
        refusal = self._cluster.why_not(node, facts)
        if refusal is not None:
            raise OptionError(refusal)
        return self._shares.of(node, gpu_bytes=facts.gpu_bytes)
