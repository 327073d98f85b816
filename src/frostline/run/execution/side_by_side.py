"""Populations side by side: as many processes as there are cores and memory, each of which trains its own.

A worker's half is ``side_worker``. Here jobs are handed out, and what the workers say is handed on.
"""

from __future__ import annotations

import logging
import multiprocessing
import pickle
import signal
import socket
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any

from frostline.costs.admission import require_memory
from frostline.errors import NotEnoughMemoryError, OptionError
from frostline.populations.memory_budget import MemoryBudget
from frostline.process import resident_bytes
from frostline.records import Evaluation, Progress, Station
from frostline.run.execution.in_process import capacity_of, grouping_of, in_process_executor, most_layers
from frostline.run.execution.options import AUTO, OFF
from frostline.run.execution.second_chances import SecondChances, WorkerError
from frostline.run.execution.side_worker import Ready, SideWork, Started, Unable, serve
from frostline.run.execution.workload import TaskTraining
from frostline.sizes import format_size, parse_size
from frostline.training.machine.threads import Threads

if TYPE_CHECKING:
    from frostline.protocols import Executor
    from frostline.records import Job, Request
    from frostline.run.execution.workload import Workload

logger = logging.getLogger(__name__)

# What a process takes beside its training: Python, torch and the data.
_PROCESS_BYTES = 300 * 2**20

# Of the workers' common parent: the first optimizer of a process imports torch's compiler, which takes a second.
_LOADED_ONCE = ["frostline.run.execution.in_process", "torch._dynamo"]

# How long a worker that was told to end may take, before it is killed.
_SECONDS_TO_END = 5.0

_GUARD = 'a script that trains with workers does its work under `if __name__ == "__main__":`'


def side_by_side_executor(workload: Workload, *, num_workers: int) -> Executor:
    """Return what evaluates in ``num_workers`` processes, or fewer where memory does not hold as many; 1 is this process.

    Every worker computes with one thread, unless the options say another number, and has an equal share of the memory.
    Raises: OptionError if the task is trained on an accelerator, or cannot be pickled; NotEnoughMemoryError if the largest
    training of the search is predicted not to fit into the memory.
    """
    training = workload.training
    assert isinstance(training, TaskTraining)
    options, device = training.options, training.settings.device_plan.device
    if device.type != "cpu":
        raise OptionError(
            f"workers is {options.workers}, but they share the cores of a CPU, and {training.task.name} is trained on "
            f"{device.type}: leave it out, or use device cpu."
        )
    own_threads = 1 if options.threads == AUTO else options.threads
    while num_workers > 1:
        memory = _share(training, num_workers)
        try:
            require_memory(training.task, trainable_layers=most_layers(workload), available=memory)
            break
        except NotEnoughMemoryError:
            num_workers -= 1
            logger.warning("memory holds %d trainings side by side", num_workers)
    else:
        return in_process_executor(workload, Threads.of(options.threads, device))
    prefix_cache = options.prefix_cache
    if prefix_cache not in (AUTO, OFF):
        prefix_cache = f"{parse_size(prefix_cache) // num_workers}"
    own = replace(options, threads=own_threads, workers=1, memory=f"{memory}", prefix_cache=prefix_cache)
    logger.info("%d processes side by side, each with %s", num_workers, format_size(memory))
    return SideBySideExecutor(
        workload=workload,
        pickled=_pickled(workload, replace(training, options=own)),
        num_workers=num_workers,
        memory_bytes=memory,
    )


def _share(training: TaskTraining, num_workers: int) -> int:
    """Return the bytes that one of ``num_workers`` may train in."""
    budget = MemoryBudget.parse(training.options.memory, device=training.settings.device_plan.device)
    share = budget.share_of(num_workers)
    # Where a number is given, it is that of the trainings alone, as in one process.
    return share if budget.allowed_bytes is not None else max(0, share - _PROCESS_BYTES)


def _pickled(workload: Workload, training: TaskTraining) -> bytes:
    level = logging.getLogger("frostline").getEffectiveLevel()
    try:
        return pickle.dumps(SideWork(training=training, ladder=workload.ladder, log_level=level))
    except Exception as error:
        reason = " ".join(str(error).split())
        raise OptionError(
            f"the task {training.task.name} cannot be sent to workers ({type(error).__name__}: {reason}): let its model and "
            f"functions be named at the top of a module, or use workers 1."
        ) from error


@dataclass(slots=True, kw_only=True, eq=False)
class _Worker:
    process: BaseProcess
    connection: Connection
    is_ready: bool = False
    jobs: dict[Request, Job] = field(default_factory=dict)
    """Those that it trains."""
    began: float = 0.0
    began_at: float = 0.0
    """The same as a time of day."""

    @classmethod
    def start(cls, number: int) -> _Worker:
        """Return a worker whose process has begun; it says so when it listens."""
        methods = multiprocessing.get_all_start_methods()
        context: Any = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
        if context.get_start_method() == "forkserver":
            # Unless somebody has started that parent without.
            context.set_forkserver_preload(_LOADED_ONCE)
        here, there = context.Pipe()
        # Not a daemon: a task's data may come from processes of its own.
        process = context.Process(target=serve, args=(there, number), name=f"frostline-{number}", daemon=False)
        process.start()
        # With another end open here, its own end would not be noticed.
        there.close()
        return cls(process=process, connection=here)

    def how_it_ended(self) -> str:
        self.process.join(_SECONDS_TO_END)
        code = self.process.exitcode
        if code is None:
            return "without a word"
        if code >= 0:
            return f"with exit status {code}"
        return f"by {next((known.name for known in signal.Signals if known == -code), f'signal {-code}')}"

    def end(self) -> None:
        self.connection.close()
        self.process.terminate()
        self.process.join(_SECONDS_TO_END)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.process.close()


class SideBySideExecutor:
    """Evaluates jobs in several processes; each trains those it is handed in populations, and says what came of them.

    A worker that dies takes nothing with it but time: what it trained is tried once more, each job by itself, and the
    configuration that a second worker dies of has failed. Workers are started when there are jobs, and end with this
    process, however that ends.
    """

    def __init__(
        self, *, workload: Workload, pickled: bytes, num_workers: int, memory_bytes: int | None = None
    ) -> None:
        self._forget = workload.forget
        self._progress = workload.progress
        self._pickled = pickled
        self._num_workers = num_workers
        self._memory_bytes = memory_bytes
        """Of each worker, for its trainings."""
        self._capacity = capacity_of(workload, num_workers=num_workers)
        self._groups = grouping_of(workload)
        self._workers: list[_Worker] = []
        self._waiting: dict[Request, Job] = {}
        self._ended: deque[Evaluation] = deque()
        self._second_chances = SecondChances()
        self._num_false_starts = 0

    def room(self) -> int:
        """Return how many more jobs it would take on: none while every worker has something to do."""
        under_way = len(self._waiting) + len(self._ended) + sum(len(worker.jobs) for worker in self._workers)
        is_busy = bool(self._waiting) or (bool(self._workers) and all(worker.jobs for worker in self._workers))
        return 0 if is_busy else max(0, self._capacity - under_way)

    def submit(self, jobs: Sequence[Job]) -> None:
        """Hand ``jobs`` out to the workers that have nothing to do; the others wait."""
        self._waiting.update((job.request, job) for job in jobs)
        while len(self._workers) < self._num_workers:
            self._workers.append(_Worker.start(len(self._workers)))
        self._hand_out()

    def next_ended(self) -> Evaluation:
        """Wait for what the workers say until one of the jobs has ended."""
        while not self._ended:
            talking = set(wait([worker.connection for worker in self._workers]))
            for worker in [worker for worker in self._workers if worker.connection in talking]:
                self._hear(worker)
            self._hand_out()
        return self._ended.popleft()

    def stations(self) -> Sequence[Station]:
        """See ``TellsStations``."""
        return [
            Station(
                host=socket.gethostname(),
                pid=worker.process.pid,
                device="cpu",
                requests=tuple(worker.jobs),
                since=worker.began_at if worker.jobs else None,
                promised_bytes=self._memory_bytes,
                used_bytes=resident_bytes(worker.process.pid),
            )
            for worker in tuple(self._workers)
        ]

    def forget(self, number: int) -> None:
        """Let go of the checkpoints of configuration ``number``."""
        self._forget(number)

    def close(self) -> None:
        """End the workers, and give up what they train."""
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.end()
        self._waiting.clear()
        self._ended.clear()

    def _hand_out(self) -> None:
        """Give every idle worker its part of what waits, of what can be trained together."""
        while self._waiting:
            # A worker that is about to be ready counts: its part is left to it.
            free = [worker for worker in self._workers if not worker.jobs]
            worker = next((worker for worker in free if worker.is_ready), None)
            if worker is None:
                return
            group = self._groups([*self._waiting.values()])[0]
            most = -(-len(self._waiting) // len(free))
            jobs = self._second_chances.together(group)[:most]
            worker.jobs = {job.request: job for job in jobs}
            worker.began, worker.began_at = time.perf_counter(), time.time()
            for job in jobs:
                del self._waiting[job.request]
            self._tell(worker, pickle.dumps(jobs))

    def _tell(self, worker: _Worker, pickled: bytes) -> None:
        try:
            worker.connection.send_bytes(pickled)
        except OSError:
            # It has died; its last words, or that there are none, are heard next.
            logger.debug("%s does not listen any more", worker.process.name)

    def _hear(self, worker: _Worker) -> None:
        try:
            message = worker.connection.recv()
        except (EOFError, OSError):
            self._replace(worker)
            return
        match message:
            case Evaluation():
                del worker.jobs[message.request]
                self._second_chances.ended(message.request)
                self._ended.append(message)
            case Progress():
                self._progress(message)
            case logging.LogRecord():
                logging.getLogger(message.name).handle(message)
            case Started():
                self._tell(worker, self._pickled)
            case Ready():
                worker.is_ready = True
                self._num_false_starts = 0
            case Unable(reason):
                raise WorkerError(f"workers cannot train this task ({reason}): use workers 1.")

    def _replace(self, worker: _Worker) -> None:
        """Start another worker in the place of one that died, and see to what it trained."""
        how = worker.how_it_ended()
        if not worker.is_ready:
            self._num_false_starts += 1
            if self._num_false_starts > 1:
                raise WorkerError(f"the processes of the workers end before they begin, {how}: {_GUARD}.")
        again, evaluations = self._second_chances.after_death(
            worker.jobs.values(), how=how, seconds=time.perf_counter() - worker.began
        )
        self._waiting.update((job.request, job) for job in again)
        self._ended.extend(evaluations)
        if worker.jobs:
            logger.warning("a worker ended %s: what it trained is tried once more, one by one", how)
        place = self._workers.index(worker)
        worker.end()
        self._workers[place] = _Worker.start(place)
