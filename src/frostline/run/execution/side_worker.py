"""A process that trains beside others: it is told jobs over a connection, and says what comes of them over the same.

The executor's half is ``side_by_side``. What is slow to import is loaded with the task, after Ctrl-C has been left to the
executor's process.
"""

from __future__ import annotations

import gc
import logging
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from logging.handlers import QueueHandler
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from frostline.process import prepare_process, return_freed_memory
from frostline.records import Job, Progress

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from frostline.protocols import Executor
    from frostline.run.execution.workload import OwnTraining, TaskTraining
    from frostline.search.interface import Rungs

# How often it says how far it is: a step may take a millisecond, and each message some of the other process's time.
_SECONDS_BETWEEN_PROGRESS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class SideWork:
    """What a worker is told first: the trainings of a search, with its own share of the memory."""

    training: TaskTraining | OwnTraining
    ladder: Rungs
    log_level: int
    most_layers: int | None = None
    """The most layers that it is ever given to train; None: those of the last rung."""


@dataclass(frozen=True, slots=True)
class Started:
    """The worker listens."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker knows its task: it can be told jobs."""


@dataclass(frozen=True, slots=True)
class Unable:
    """The worker cannot train this task at all: what an executor raises, and no job."""

    reason: str


def serve(connection: Connection, number: int) -> None:
    """Train what comes over ``connection`` as worker ``number``, until it is closed: this is all that the process does.

    Sent are ``Started``, then for a ``SideWork`` either ``Ready`` or ``Unable``, then for a list of jobs the evaluation of
    each as it ends; in between ``Progress`` and log records.
    """
    # Ctrl-C reaches every process of a terminal: the executor's ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    prepare_process()
    connection.send(Started())
    pickled = connection.recv_bytes()
    orders: SimpleQueue[list[Job]] = SimpleQueue()
    # Whatever is being trained, the end of the executor's process is noticed at once.
    threading.Thread(target=_listen, args=(connection, orders), daemon=True).start()
    try:
        # Of the process that started this one.
        executor = executor_of(pickle.loads(pickled), connection.send, number=number)  # noqa: S301
        connection.send(Ready())
        while True:
            jobs = orders.get()
            executor.submit(jobs)
            for _ in jobs:
                connection.send(executor.next_ended())
    except BrokenPipeError:
        os._exit(1)
    except Exception as error:
        connection.send(Unable(f"{type(error).__name__}: {' '.join(str(error).split())}"))


def _listen(connection: Connection, orders: SimpleQueue[list[Job]]) -> None:
    while True:
        try:
            orders.put(connection.recv())
        except (EOFError, OSError):
            # Of nobody's concern any more; a training cannot be stopped in another way.
            os._exit(1)


def executor_of(work: SideWork, send: Callable[[Any], None], *, number: int) -> Executor:
    """Return what evaluates in this process, worker ``number``, which from now on logs and tells progress to ``send``."""
    logger = logging.getLogger("frostline")
    logger.setLevel(work.log_level)
    logger.addHandler(_Sending(send))
    logger.propagate = False
    from frostline.run.execution.executors import SerialExecutor
    from frostline.run.execution.in_process import in_process_executor
    from frostline.run.execution.workload import TaskTraining, Workload
    from frostline.training.machine.threads import Threads
    from frostline.training.supervised.supervised_task import keeps_weights_small

    training = work.training
    workload = Workload(training=training, ladder=work.ladder, progress=_Paced(send, number))
    if not isinstance(training, TaskTraining):
        # An objective's garbage is collected after every training: what this process has loaded is looked through in vain.
        gc.freeze()
        return SerialExecutor(workload.evaluate)
    if keeps_weights_small(training.task):
        return_freed_memory()
    threads = Threads.of(training.options.threads, training.settings.device_plan.device)
    return in_process_executor(workload, threads, trainable_layers=work.most_layers)


class _Sending(QueueHandler):
    """Sends log records to the executor's process, where they are handled as its own."""

    def __init__(self, send: Callable[[Any], None]) -> None:
        super().__init__(None)  # type: ignore[arg-type]
        self._send = send

    def enqueue(self, record: logging.LogRecord) -> None:
        self._send(record)


class _Paced:
    """Sends progress now and then, and whatever begins."""

    def __init__(self, send: Callable[[Any], None], number: int) -> None:
        self._send = send
        self._number = number
        self._sent = 0.0
        self._engine: str | None = ""

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        is_new = progress.samples == progress.started or progress.engine != self._engine
        if is_new or now - self._sent >= _SECONDS_BETWEEN_PROGRESS:
            self._send(replace(progress, worker=self._number))
            self._sent, self._engine = now, progress.engine
