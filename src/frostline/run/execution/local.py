"""How executors of this machine are made, unless somebody hands over another way: in this process, or in several."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.run.execution.executors import SerialExecutor
from frostline.run.execution.in_process import in_process_executor
from frostline.run.execution.options import AUTO
from frostline.run.execution.side_by_side import side_by_side_executor
from frostline.run.execution.spreading import SpreadingExecutor
from frostline.run.execution.workload import TaskTraining
from frostline.training.machine.threads import Threads

if TYPE_CHECKING:
    from frostline.protocols import Executor
    from frostline.run.execution.workload import Workload


def local_executor(workload: Workload) -> Executor:
    """Return what evaluates on this machine: a task's configurations in populations, in as many processes as options say.

    Raises: NotEnoughMemoryError if the largest training of the search is predicted not to fit into the memory; OptionError
    if it cannot be done in several processes.
    """
    training = workload.training
    if not isinstance(training, TaskTraining):
        return SerialExecutor(workload.evaluate, forget=workload.forget)
    workers, device = training.options.workers, training.settings.device_plan.device
    threads = Threads.of(training.options.threads, device)
    if workers == 1 or (workers == AUTO and device.type != "cpu"):
        return in_process_executor(workload, threads)
    if workers == AUTO:
        return SpreadingExecutor(workload, threads)
    return side_by_side_executor(workload, num_workers=workers)
