"""One share of a node: a process that trains what it is handed, and keeps the frozen layers' outputs as long as it lives.

Ray makes an actor of ``ShareWorker``. Its training runs in a thread of its own, so that it listens meanwhile. Nothing here
imports Ray.
"""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from frostline.process import prepare_process
from frostline.run.execution.side_worker import Ready, SideWork, Unable, executor_of

if TYPE_CHECKING:
    from frostline.protocols import Executor
    from frostline.records import Job


@dataclass(frozen=True, slots=True, kw_only=True)
class SharePlan:
    """Which part of a node a worker has."""

    number: int
    memory_bytes: int | None
    """What its trainings may take; None: nobody said what the node has."""
    trainable_layers: int | None
    """The most layers that it is given to train; None: all."""
    directory: str
    """Where the driver runs: there the user's relative paths begin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Jobs to be evaluated, and the bytes that each of them is predicted to need."""

    jobs: Sequence[Job]
    needed_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowded:
    """The node has less free than the share was promised: ``jobs`` were not begun."""

    jobs: Sequence[Job]
    free_bytes: int


class ShareWorker:
    """Evaluates what ``submit`` hands it, and tells by ``hear``: ``Ready`` or ``Unable``, then the evaluation of each job.

    In between it tells progress and log records, and ``Crowded`` in place of evaluations.
    """

    def __init__(self, work: bytes, plan: SharePlan) -> None:
        prepare_process()
        # Everybody can reach it, unless the driver's machine is another one.
        with suppress(OSError):
            os.chdir(plan.directory)
        self._orders: SimpleQueue[Order] = SimpleQueue()
        self._messages: SimpleQueue[Any] = SimpleQueue()
        # torch's number of threads is that of the thread which sets it: the executor is made where it is used.
        threading.Thread(target=self._serve, args=(work, plan), daemon=True).start()

    def submit(self, order: Order) -> None:
        """Evaluate the jobs of ``order`` after those that were handed over before."""
        self._orders.put(order)

    def hear(self) -> list[Any]:
        """Wait until there is something to tell, and return all that there is."""
        messages = [self._messages.get()]
        while not self._messages.empty():
            messages.append(self._messages.get())
        return messages

    def _serve(self, work: bytes, plan: SharePlan) -> None:
        tell = self._messages.put
        try:
            own = _own_part(work, plan, tell)
            executor = executor_of(own, tell, number=plan.number)
            free_bytes = _free_bytes_of(own)
            tell(Ready())
            while True:
                self._evaluate(executor, self._orders.get(), free_bytes)
        except Exception as error:
            tell(Unable(f"{type(error).__name__}: {' '.join(str(error).split())}"))

    def _evaluate(self, executor: Executor, order: Order, free_bytes: Callable[[], int]) -> None:
        free = free_bytes() if order.needed_bytes else 0
        if free < order.needed_bytes:
            self._messages.put(Crowded(jobs=order.jobs, free_bytes=free))
            return
        executor.submit(order.jobs)
        for _ in order.jobs:
            self._messages.put(executor.next_ended())


def _own_part(work: bytes, plan: SharePlan, tell: Callable[[Any], None]) -> SideWork:
    """Return the work with this share's memory in it, and with whoever hears of its progress."""
    from frostline.objectives.training import ObjectiveTraining
    from frostline.run.execution.workload import TaskTraining

    whole: SideWork = pickle.loads(work)  # noqa: S301 (of the driver, by Ray's own means)
    training = whole.training
    if isinstance(training, ObjectiveTraining):
        training = replace(training, progress=tell)
    elif isinstance(training, TaskTraining) and plan.memory_bytes is not None:
        training = replace(training, options=replace(training.options, memory=f"{plan.memory_bytes}"))
    return replace(whole, training=training, most_layers=plan.trainable_layers)


def _free_bytes_of(work: SideWork) -> Callable[[], int]:
    """Return what says how much is free for trainings on the device that they run on."""
    import torch

    from frostline.run.execution.workload import TaskTraining
    from frostline.training.machine.memory import available_bytes

    training = work.training
    device = training.settings.device_plan.device if isinstance(training, TaskTraining) else torch.device("cpu")
    return partial(available_bytes, device)
