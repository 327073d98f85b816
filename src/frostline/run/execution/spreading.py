"""From one process to several on the way, where a search takes long and one training cannot use the cores."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from frostline.errors import OptionError
from frostline.process import num_cores
from frostline.run.execution.in_process import in_process_executor
from frostline.run.execution.second_chances import WorkerError
from frostline.run.execution.side_by_side import SideBySideExecutor, side_by_side_executor
from frostline.training.failures import give_memory_back

if TYPE_CHECKING:
    from frostline.records import Evaluation, Job, Request, Station
    from frostline.run.execution.executors import PopulationExecutor, SerialExecutor
    from frostline.run.execution.workload import Workload
    from frostline.training.machine.threads import Threads

logger = logging.getLogger(__name__)

# Every worker loads torch, which takes seconds: a search that is over sooner is better off without.
_SECONDS_BEFORE = 10.0


class SpreadingExecutor:
    """Evaluates in this process, and goes over to several between two populations once that is worth while.

    That is when the search has trained for ``seconds_before`` and its trainings have settled on one thread of several.
    Where the task cannot be sent to other processes, or they cannot train it, all of it stays here.
    """

    def __init__(self, workload: Workload, threads: Threads, *, seconds_before: float = _SECONDS_BEFORE) -> None:
        self._workload = workload
        self._threads = threads
        self._seconds_before = seconds_before
        # As many as torch was given threads: whoever allows fewer means it of the whole search.
        self._most_workers = min(threads.allowed, num_cores())
        self._may_spread = self._most_workers > 1
        self._seconds = 0.0
        self._under_way: dict[Request, Job] = {}
        self._executor: SerialExecutor | PopulationExecutor | SideBySideExecutor = in_process_executor(
            workload, threads
        )

    def room(self) -> int:
        """Return how many more jobs it would take on now."""
        return self._executor.room()

    def submit(self, jobs: Sequence[Job]) -> None:
        """Take on ``jobs``."""
        self._under_way.update((job.request, job) for job in jobs)
        self._executor.submit(jobs)

    def next_ended(self) -> Evaluation:
        """Go on here or in several processes until a job has ended."""
        if self._may_spread and self._is_worth_while:
            self._spread()
        begin = time.perf_counter()
        try:
            evaluation = self._executor.next_ended()
        except WorkerError as error:
            self._gather(error)
            evaluation = self._executor.next_ended()
        self._seconds += time.perf_counter() - begin
        del self._under_way[evaluation.request]
        return evaluation

    def stations(self) -> Sequence[Station]:
        """See ``TellsStations``."""
        return self._executor.stations()

    def forget(self, number: int) -> None:
        """Let go of the checkpoints of configuration ``number``."""
        self._executor.forget(number)

    def close(self) -> None:
        """Let go of everything."""
        self._executor.close()
        self._under_way.clear()

    @property
    def _is_worth_while(self) -> bool:
        return (
            not isinstance(self._executor, SideBySideExecutor)
            and not self._executor.is_training
            and len(self._under_way) > 1
            and self._seconds >= self._seconds_before
            and self._threads.settled == 1
        )

    def _spread(self) -> None:
        """Hand what waits over to workers, if the task can be sent to them and memory holds more than one."""
        self._may_spread = False
        try:
            wide = side_by_side_executor(self._workload, num_workers=self._most_workers)
        except OptionError as error:
            logger.info("one process goes on: %s", error)
            return
        if not isinstance(wide, SideBySideExecutor):
            return
        # What it holds of the memory is theirs now.
        self._executor.close()
        self._executor = wide
        give_memory_back()
        wide.submit([*self._under_way.values()])

    def _gather(self, error: WorkerError) -> None:
        """Go on in this process, with all that the workers have not ended."""
        logger.warning("one process goes on: %s", error)
        self._executor.close()
        self._executor = in_process_executor(self._workload, self._threads)
        self._executor.submit([*self._under_way.values()])
