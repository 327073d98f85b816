"""A Ray cluster as frostline sees it: nodes that say what they have, and workers on shares of them."""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import os
import pickle
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frostline.errors import OptionError
from frostline.folders.local_folder import LocalFolder
from frostline.inputs.whole_numbers import shown
from frostline.integrations.ray.node_shares import Node, Share
from frostline.integrations.ray.ray_worker import SharePlan, ShareWorker
from frostline.integrations.ray.shared_folder import token_in

if TYPE_CHECKING:
    from frostline.folders.folder import Folder

# A head that is there answers in milliseconds, a node loads torch in seconds.
_SECONDS_TO_ANSWER = 5.0
_SECONDS_TO_PROBE = 120.0

# How long the workers of a driver that was killed may be seen.
_SECONDS_TO_VANISH = 20.0

_NAMESPACE = "frostline"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """What a node says of itself when it is asked."""

    versions: dict[str, str | None]
    """Of ``frostline`` and ``torch``; None: it is not installed there, or cannot be imported."""
    token: str | None
    """What it finds in the folder of checkpoints, the driver's or another; None: nothing."""
    gpu_bytes: int
    """The memory of each GPU; 0 without any."""
    trouble: str = ""
    """Why it finds nothing behind a URL."""


class RayCluster:
    """A cluster that this process has joined as a driver of the study that ``runs`` and ``study`` name.

    ``runs`` is the folder that every node has to reach; None where trainings leave nothing behind.
    """

    def __init__(self, address: str, *, runs: Folder | None, study: str) -> None:
        self._ray = _imported()
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._on_node: Callable[..., Any] = NodeAffinitySchedulingStrategy
        self._is_ours = not self._ray.is_initialized()
        if self._is_ours:
            _join(self._ray, address)
        else:
            _check_joined(self._ray, address)
        self._runs = LocalFolder(path=runs.path.resolve()) if isinstance(runs, LocalFolder) else runs
        digest = hashlib.sha256(f"{self._runs} {study}".encode()).hexdigest()[:16]
        self._prefix, self._own = f"frostline {digest} ", uuid.uuid4().hex[:8]
        self._num_started = 0
        try:
            self._wait_for_others(study)
            self._token = None if self._runs is None else token_in(self._runs)
        except BaseException:
            self.leave()
            raise

    def nodes(self) -> list[Node]:
        """Return the machines that are there."""
        return [
            Node(
                identity=node["NodeID"],
                name=f"{node['NodeManagerAddress']} ({node['NodeID'][:6]})",
                num_cores=int(node["Resources"].get("CPU", 0)),
                memory_bytes=int(node["Resources"].get("memory", 0)),
                num_gpus=int(node["Resources"].get("GPU", 0)),
            )
            for node in self._ray.nodes()
            if node["Alive"]
        ]

    def put(self, work: bytes) -> Any:
        """Return a reference to ``work``, which travels to each node once."""
        return self._ray.put(work)

    def ask(self, node: Node) -> Any:
        """Return a reference to the ``NodeFacts`` of a node."""
        # With a part of a GPU, as Ray hides them from whoever asks for none.
        options = {"num_cpus": 0, "num_gpus": 0.001 if node.num_gpus else 0, "max_retries": 0}
        question = self._ray.remote(_question()).options(
            **options, scheduling_strategy=self._on_node(node.identity, soft=False)
        )
        # As bytes, which are read there by what may not be installed.
        return question.remote(None if self._runs is None else pickle.dumps(self._runs), self._token)

    def facts(self, answer: Any) -> NodeFacts:
        """Return what a node that was asked says. Raises: RayError if it cannot."""
        return NodeFacts(**self._ray.get(answer, timeout=_SECONDS_TO_PROBE))

    def why_not(self, node: Node, facts: NodeFacts) -> str | None:
        """Return in one line why a node cannot take part; None if it can."""
        for package, version in _own_versions().items():
            there = facts.versions.get(package)
            if there is None:
                return f"the node {node.name} has no {package}: install {package} {version} there."
            if there.partition("+")[0] != f"{version}".partition("+")[0]:
                return f"the node {node.name} has {package} {there}, and the driver {version}: install the same on both."
        if facts.token != self._token:
            return (
                f"the folder {str(self._runs)!r} is not shared: the node {node.name} does not see what the driver wrote "
                f"there{f' ({facts.trouble})' if facts.trouble else ''}. Name one that every node reaches (--runs)."
            )
        return None

    def start(self, share: Share, work: Any, plan: SharePlan) -> Any:
        """Return a worker that begins on ``share``, with what ``put`` returned."""
        self._num_started += 1
        return (
            self._ray.remote(ShareWorker)
            .options(
                name=f"{self._prefix}{self._own} {self._num_started}",
                namespace=_NAMESPACE,
                num_cpus=share.cores,
                num_gpus=share.gpus,
                memory=share.reserved_bytes,
                max_concurrency=2,
                max_restarts=0,
                scheduling_strategy=self._on_node(share.node, soft=False),
            )
            .remote(work, plan)
        )

    def ready(self, references: Sequence[Any], *, seconds: float) -> list[Any]:
        """Return which of ``references`` have something to tell, after at most so many seconds; none at the end of them."""
        at_once, others = self._ray.wait(references, num_returns=len(references), timeout=0)
        if at_once:
            return list(at_once)
        first, _ = self._ray.wait(others, num_returns=1, timeout=seconds)
        return list(first)

    def told(self, reference: Any) -> Any:
        """Return what ``reference`` stands for. Raises: RayError if who was to tell it is gone."""
        return self._ray.get(reference)

    @property
    def error(self) -> type[Exception]:
        """What Ray raises where something is gone."""
        error: type[Exception] = self._ray.exceptions.RayError
        return error

    def end(self, workers: Iterable[Any]) -> None:
        """End workers, and give up what they do."""
        for worker in workers:
            with suppress(Exception):
                self._ray.kill(worker)

    def leave(self) -> None:
        """Leave the cluster, unless this process had joined it before."""
        if self._is_ours:
            self._ray.shutdown()

    def _wait_for_others(self, study: str) -> None:
        """Wait until no other driver's workers are left, of one that was killed. Raises: OptionError if they stay."""
        deadline = time.monotonic() + _SECONDS_TO_VANISH
        while self._others():
            if time.monotonic() > deadline:
                raise OptionError(
                    f"another driver on this cluster searches the study {study!r}: wait for its end, or "
                    f"stop it; the same command then goes on."
                )
            time.sleep(0.2)

    def _others(self) -> list[str]:
        names = [actor["name"] for actor in self._ray.util.list_named_actors(all_namespaces=True)]
        return [name for name in names if name.startswith(self._prefix)]


def how_it_ended(error: Exception) -> str:
    """Return how a worker ended, of what Ray says of it."""
    words = " ".join(f"{error}".split())
    if "OutOfMemory" in type(error).__name__ or "NODE_OUT_OF_MEMORY" in words:
        return "for lack of memory on its node"
    if "node has died" in words or "node is dead" in words or "Unavailable" in type(error).__name__:
        return "with its node"
    return "without a word"


def _imported() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise OptionError("Ray is not installed: pip install 'frostline[ray]'.") from error


def _join(ray: Any, address: str) -> None:
    """Join the cluster at an address as a driver. Raises: OptionError if nobody answers there."""
    _check_address(address)
    try:
        ray.init(
            address=address,
            namespace=_NAMESPACE,
            log_to_driver=False,
            configure_logging=False,
            include_dashboard=False if address == "local" else None,
        )
    except ConnectionError as error:
        raise OptionError(
            f"there is no Ray cluster at {shown(address)} ({_one_line(error)}): start one (ray start --head), or name its "
            f"address, HOST:PORT."
        ) from error
    except (RuntimeError, ValueError) as error:
        # Of another version of Ray or Python, above all.
        raise OptionError(f"the Ray cluster at {shown(address)} cannot be joined ({_one_line(error)}).") from error


def _one_line(error: Exception) -> str:
    return " ".join(f"{error}".split()).rstrip(".")[:300]


def _check_joined(ray: Any, address: str) -> None:
    """Check that the cluster which this process is in is the one that is meant. Raises: OptionError."""
    joined = ray.get_runtime_context().gcs_address
    if address not in ("auto", "local", joined):
        raise OptionError(
            f"this process is in the Ray cluster at {joined!r}, and cannot be in that at {shown(address)} too: call "
            f"ray.shutdown() first."
        )


def _check_address(address: str) -> None:
    """Check that somebody listens at an address: Ray would try for a minute. Raises: OptionError."""
    if address in ("auto", "local"):
        return
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or "/" in host:
        raise OptionError(f"address is {shown(address)}, but must be auto, local or HOST:PORT.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS_TO_ANSWER).close()
    except (OSError, OverflowError) as error:
        raise OptionError(
            f"nobody answers at {shown(address)} ({getattr(error, 'strerror', None) or error}): start a cluster there (ray "
            f"start --head), or name another address."
        ) from error


def _own_versions() -> dict[str, str]:
    return {
        "frostline": importlib.import_module("frostline").__version__,
        "torch": importlib.metadata.version("torch"),
    }


def _question() -> Callable[[bytes | None, str | None], dict[str, Any]]:
    """Return what a node is asked. It is pickled with its code, as the node may be without frostline."""

    def question(runs: bytes | None, token: str | None) -> dict[str, Any]:
        versions: dict[str, str | None] = {"frostline": None, "torch": None}
        with suppress(Exception):
            versions["frostline"] = importlib.import_module("frostline").__version__
            # It takes seconds to import.
            versions["torch"] = importlib.metadata.version("torch")
        seen, trouble = None, ""
        if runs is not None and versions["frostline"]:
            try:
                folder = pickle.loads(runs)  # noqa: S301 (of the driver, by Ray's own means)
                seen = importlib.import_module("frostline.integrations.ray.shared_folder").token_seen(
                    folder, token
                )
            except Exception as error:
                trouble = f"{error}" if type(error).__name__ == "FolderError" else ""
        gpu_bytes = 0
        if os.environ.get("CUDA_VISIBLE_DEVICES") and versions["torch"]:
            cuda = importlib.import_module("torch").cuda
            gpu_bytes = cuda.mem_get_info()[0] if cuda.is_available() else 0
        return {"versions": versions, "token": seen, "gpu_bytes": gpu_bytes, "trouble": trouble}

    return question
