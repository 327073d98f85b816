"""The driver's half of a search on a cluster: jobs are placed on shares of nodes, handed out, and heard of.

What Ray is asked is in ``ray_cluster``, the other half in ``ray_worker``; who trains what next is decided in
``frostline.run.execution.placement``.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frostline.integrations.ray.node_shares import NodeShares, Share, largest_by_node
from frostline.integrations.ray.node_watch import NodeWatch
from frostline.integrations.ray.ray_cluster import how_it_ended
from frostline.integrations.ray.ray_worker import Crowded, Order, SharePlan
from frostline.records import Evaluation, Job, Progress, Station
from frostline.run.execution.in_process import capacity_of, grouping_of
from frostline.run.execution.placement import Placement, even_part
from frostline.run.execution.second_chances import SecondChances, WorkerError
from frostline.run.execution.side_worker import Ready, Unable
from frostline.run.execution.workload import TaskTraining
from frostline.sizes import format_size

if TYPE_CHECKING:
    from frostline.integrations.ray.node_shares import Node
    from frostline.integrations.ray.ray_cluster import RayCluster
    from frostline.records import Request
    from frostline.run.execution.workload import Workload

logger = logging.getLogger(__name__)

# How often it is looked who has joined, and how long it is waited for somebody to where nobody is left who could train.
_SECONDS_BETWEEN_LOOKS = 2.0
_SECONDS_WITHOUT_HOPE = 600.0

# A share whose workers end so often in a row before they begin gives no hope, and is tried again after longer and longer.
_FALSE_STARTS = 2
_LONGEST_REST_SECONDS = 60.0


@dataclass(slots=True, kw_only=True, eq=False)
class _Worker:
    share: Share
    actor: Any
    hearing: Any
    """What it tells next."""
    number: int
    is_ready: bool = False
    jobs: dict[Request, Job] = field(default_factory=dict)
    """Those that it trains."""
    began: float = 0.0
    began_at: float = 0.0
    """The same as a time of day."""


class ClusterExecutor:
    """Evaluates jobs on shares of a cluster's nodes; each trains those it is handed in populations.

    A worker that ends, alone or with its node, takes nothing with it but time: what it trained is tried once more, each job
    by itself, and the configuration that a second worker ends with has failed. Nodes that join are given work.
    """

    def __init__(self, *, cluster: RayCluster, workload: Workload, work: bytes, shares: NodeShares) -> None:
        self._cluster = cluster
        self._workload = workload
        self._work = cluster.put(work)
        self._shares = shares
        self._forget, self._groups = workload.forget, _grouping(workload)
        self._placement: Placement[Share, Request] = Placement()
        self._waiting: dict[Request, Job] = {}
        self._workers: dict[Share, _Worker] = {}
        self._watch = NodeWatch(cluster, shares)
        self._ended: deque[Evaluation] = deque()
        self._second_chances = SecondChances()
        self._false_starts: Counter[Share] = Counter()
        self._resting: dict[Share, float] = {}
        """When the shares without a worker are tried again."""
        self._numbers: dict[Share, int] = {}
        """What its workers are called in progress, by their share."""
        self._next_look = 0.0
        self._had_hope = time.monotonic()

    def begin(self, nodes: Sequence[Node]) -> None:
        """Let ``nodes`` take part.

        Raises: OptionError if one of them cannot; NotEnoughMemoryError if a rung fits on none.
        """
        self._watch.ask(nodes)
        shares = [share for answer in self._watch.answers for share in self._watch.shares_of(answer)]
        self._shares.requirements.check(largest_by_node(shares))
        for share in shares:
            self._start(share)

    @property
    def num_suspects(self) -> int:
        """How many jobs are tried once more, because a worker ended that trained them."""
        return len(self._second_chances)

    def room(self) -> int:
        """Return how many more jobs it would take on: none while every share has something to do."""
        num_training = sum(len(worker.jobs) for worker in self._workers.values())
        under_way = len(self._waiting) + len(self._ended) + num_training
        num_workers = max(1, len(self._workers))
        capacity = max(num_workers, capacity_of(self._workload, num_workers=num_workers))
        is_busy = self._placement.num_free == 0 and (num_training or self._waiting)
        return 0 if is_busy and under_way else max(0, capacity - under_way)

    def submit(self, jobs: Sequence[Job]) -> None:
        """Hand ``jobs`` out to the shares that have nothing to do; the others wait."""
        self._wait(jobs)
        self._hand_out()

    def next_ended(self) -> Evaluation:
        """Wait for what the shares tell until one of the jobs has ended."""
        while not self._ended:
            if time.monotonic() >= self._next_look:
                self._next_look = time.monotonic() + _SECONDS_BETWEEN_LOOKS
                self._look_around()
            self._listen()
            self._hand_out()
        return self._ended.popleft()

    def stations(self) -> Sequence[Station]:
        """See ``TellsStations``: the shares of the nodes."""
        return [
            Station(
                host=worker.share.node_name,
                pid=None,
                device="cuda" if worker.share.gpus else "cpu",
                requests=tuple(worker.jobs),
                since=worker.began_at if worker.jobs else None,
                promised_bytes=worker.share.memory_bytes,
            )
            for worker in tuple(self._workers.values())
        ]

    def forget(self, number: int) -> None:
        """Let go of the checkpoints of configuration ``number``."""
        self._forget(number)

    def close(self) -> None:
        """End the workers, give up what they train, and leave the cluster."""
        workers, self._workers = self._workers, {}
        self._cluster.end(worker.actor for worker in workers.values())
        self._waiting.clear()
        self._ended.clear()
        self._cluster.leave()

    def _wait(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self._waiting[job.request] = job
            self._placement.wait(job.request, self._shares.requirements.bytes_of(job))

    def _hand_out(self) -> None:
        """Give every idle share its part of what waits, of what can be trained together."""
        requirements = self._shares.requirements
        while (choice := self._placement.choose()) is not None:
            candidates = [self._waiting[request] for request in choice.items]
            first = candidates[0]
            needed = requirements.bytes_of(first)
            most = even_part(
                choice.num_alike,
                self._placement.num_holding(needed),
                most=partial(requirements.population, first, choice.memory_bytes),
            )
            jobs = self._second_chances.together(self._groups(candidates)[0])[:most]
            self._placement.begin(choice.device, [job.request for job in jobs])
            worker = self._workers[choice.device]
            worker.jobs = {job.request: self._waiting.pop(job.request) for job in jobs}
            worker.began, worker.began_at = time.perf_counter(), time.time()
            worker.actor.submit.remote(Order(jobs=jobs, needed_bytes=needed))

    def _listen(self) -> None:
        """Hear whoever has something to tell: workers, and nodes that were asked."""
        hearing = {worker.hearing: worker for worker in self._workers.values()}
        references = [*hearing, *self._watch.answers]
        if self._watch.answers or any(self._gives_hope(worker) for worker in self._workers.values()):
            self._had_hope = time.monotonic()
        else:
            self._check_patience()
        if not references:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
            return
        for reference in self._cluster.ready(references, seconds=_SECONDS_BETWEEN_LOOKS):
            if reference in hearing:
                self._hear(hearing[reference])
            else:
                for share in self._watch.joined(reference):
                    self._start(share)

    def _gives_hope(self, worker: _Worker) -> bool:
        is_starting = not worker.is_ready and self._false_starts[worker.share] < _FALSE_STARTS
        return is_starting or bool(worker.jobs)

    def _hear(self, worker: _Worker) -> None:
        try:
            messages = self._cluster.told(worker.hearing)
        except self._cluster.error as error:
            self._replace(worker, how_it_ended(error))
            return
        worker.hearing = worker.actor.hear.remote()
        for message in messages:
            self._take(worker, message)

    def _take(self, worker: _Worker, message: Any) -> None:
        match message:
            case Evaluation():
                del worker.jobs[message.request]
                self._second_chances.ended(message.request)
                self._ended.append(message)
                if not worker.jobs:
                    self._placement.release(worker.share)
            case Progress():
                self._workload.progress(replace(message, worker=worker.number))
            case logging.LogRecord():
                logging.getLogger(message.name).handle(message)
            case Ready():
                worker.is_ready = True
                self._false_starts[worker.share] = 0
                self._placement.release(worker.share)
            case Crowded(free_bytes=free):
                self._narrow(worker, free)
            case Unable(reason):
                self._leave_out(worker, reason)

    def _leave_out(self, worker: _Worker, reason: str) -> None:
        """Do without a worker that cannot begin where others can. Raises: WorkerError if it is not for its node alone."""
        refusal = f"the node {worker.share.node_name} cannot train this task ({reason})."
        if worker.is_ready or not any(other.is_ready for other in self._workers.values()):
            raise WorkerError(refusal)
        logger.warning("%s It takes no part.", refusal)
        del self._workers[worker.share]
        self._placement.remove(worker.share)
        self._cluster.end([worker.actor])

    def _narrow(self, worker: _Worker, free: int) -> None:
        """Give a share no more than its node has free, and what it was to train to another one."""
        share = worker.share
        logger.warning(
            "the node %s has %s free of the %s that it promised: what needs more is trained elsewhere",
            share.node_name, format_size(free), format_size(share.memory_bytes),
        )  # fmt: skip
        self._placement.remove(share)
        self._placement.add(share, free)
        self._placement.release(share)
        jobs, worker.jobs = [*worker.jobs.values()], {}
        self._wait(jobs)
        largest = self._placement.largest_bytes
        for request in self._placement.unplaceable():
            raise self._shares.requirements.refuse(self._waiting[request], {share.node_name: largest})

    def _replace(self, worker: _Worker, how: str) -> None:
        """Start another worker in the place of one that ended, if the node is there, and see to what it trained."""
        share = worker.share
        del self._workers[share]
        self._cluster.end([worker.actor])
        self._placement.remove(share)
        if not worker.is_ready:
            self._false_starts[share] += 1
        again, evaluations = self._second_chances.after_death(
            worker.jobs.values(), how=how, seconds=time.perf_counter() - worker.began
        )
        self._ended.extend(evaluations)
        if worker.jobs:
            logger.warning(
                "a worker on %s ended %s: what it trained is tried once more, one by one", share.node_name, how
            )
        self._wait(again)
        rest = 0.0
        if self._false_starts[share] >= _FALSE_STARTS:
            rest = min(_LONGEST_REST_SECONDS, 2.0 ** self._false_starts[share])
            logger.warning("workers on %s end before they begin: the next one in %.0f s", share.node_name, rest)
        self._resting[share] = time.monotonic() + rest
        self._look_around()

    def _start(self, share: Share) -> None:
        """Start a worker on a share; it tells when it is ready."""
        number = self._numbers.setdefault(share, len(self._numbers))
        actor = self._cluster.start(
            share,
            self._work,
            SharePlan(
                number=number,
                memory_bytes=share.memory_bytes,
                trainable_layers=self._shares.requirements.layers_within(share.memory_bytes),
                directory=f"{Path.cwd()}",
            ),
        )
        # It counts before it is ready: its part of what waits is left to it.
        self._placement.add(share, share.memory_bytes)
        self._workers[share] = _Worker(share=share, actor=actor, hearing=actor.hear.remote(), number=number)

    def _look_around(self) -> None:
        """Ask the nodes that have joined, and start workers on shares that have none, where their node is still there."""
        there = self._watch.look()
        now = time.monotonic()
        for share in [share for share, when in self._resting.items() if when <= now]:
            del self._resting[share]
            if share.node in there:
                self._start(share)

    def _check_patience(self) -> None:
        """Raise what ends the search if nobody who is left can train what waits, and nobody has joined for long."""
        if time.monotonic() < self._had_hope + _SECONDS_WITHOUT_HOPE:
            return
        for request in self._placement.unplaceable() if self._workers else ():
            raise self._shares.requirements.refuse(self._waiting[request], largest_by_node(self._workers))
        raise WorkerError(
            "no node of the cluster is left that trains, and none has joined for ten minutes: start one, and the same "
            "command goes on."
        )


def _grouping(workload: Workload) -> Callable[[Sequence[Job]], list[list[Job]]]:
    """Return what says which jobs are handed out together: those that can be trained so."""
    if not isinstance(workload.training, TaskTraining):
        # Nothing is gained by sending each by itself: they are evaluated one after the other.
        return lambda jobs: [[*jobs]]
    return grouping_of(workload)
