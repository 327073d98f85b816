"""What is searched on a cluster in tests, and a driver to be killed: run as a module with an address and a folder."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Any

from torch import nn

import frostline
from frostline.integrations import RayExecutor
from frostline.records import Evaluation
from frostline.run.execution.workload import ExecutorFactory
from frostline.run.plan import SearchPlan
from frostline.search.history import History
from tests.run import side_tasks

LADDER = frostline.Ladder.explicit([(2, 256), (2, 512), (6, 1024)], num_layers=6, full_samples=1024)


def wide(configuration: frostline.Configuration) -> nn.Module:
    """6 layers of 4 MiB: that a node holds few of them trained is seen beside what a process takes."""
    blocks = [nn.Sequential(nn.Linear(1024, 1024), nn.Tanh()) for _ in range(4)]
    return nn.Sequential(nn.Sequential(nn.Linear(4, 1024), nn.Tanh()), *blocks, nn.Linear(1024, 2))


def wide_task() -> frostline.SupervisedTask:
    return side_tasks.make(model=wide)


class Locked:
    """Cannot be pickled."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __call__(self, configuration: frostline.Configuration) -> Any:
        return side_tasks.network(configuration)


def search(
    folder: Path,
    *,
    executor: ExecutorFactory | None = None,
    storage: str = ":memory:",
    task: frostline.SupervisedTask = side_tasks.task,
    observer: frostline.Observer = frostline.SILENT,
    **changes: Any,
) -> frostline.TuneResult:
    """Return what a small search of 9 configurations comes to, on a cluster or in this process."""
    options = frostline.TrainingOptions(
        **{"device": "cpu", "runs": folder / "runs", "engine": "shared", "threads": 1, **changes}
    )
    return frostline.tune_task(
        task,
        study="s",
        storage=storage,
        ladder=LADDER,
        plan=SearchPlan(configurations=9),
        training=options,
        observer=observer,
        **({} if executor is None else {"executor": executor}),
    )


def everything(result: frostline.TuneResult) -> list[Any]:
    """All that a history says but for the time it took."""
    evaluations = result.history.evaluations()
    return sorted((each.request, each.status, each.curve, each.cost.samples) for each in evaluations)


class _Slow(frostline.Observer):
    """Prints what has ended, and lets some time pass in which to be killed."""

    def ended(self, evaluation: Evaluation, history: History) -> None:
        sys.stdout.write(f"ended {history.num_evaluations}\n")
        sys.stdout.flush()
        time.sleep(0.2)


if __name__ == "__main__":
    place = Path(sys.argv[2])
    search(
        place, executor=RayExecutor(address=sys.argv[1]), storage=f"sqlite:///{place}/study.db", observer=_Slow()
    )
