"""A driver to be killed: a search on the cluster at an address, kept in a folder, that says what has ended."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from frostline.integrations import RayExecutor
from frostline.integrations.ray.cluster_executor import ClusterExecutor
from frostline.records import Configuration, Evaluation, Fidelity
from frostline.run.execution.workload import ExecutorFactory, Workload
from frostline.run.loop import Observer
from frostline.run.plan import SearchPlan
from frostline.run.tuning import search_function
from frostline.search.history import History
from tests.run.test_faults import LADDER, SPACE, bowl


def landscape(configuration: Configuration, fidelity: Fidelity) -> float:
    time.sleep(0.05)
    return bowl(configuration, fidelity)


class Saying(Observer):
    """Prints how many have ended, and of how many jobs a worker has died that are tried once more."""

    executor: ClusterExecutor

    def ended(self, evaluation: Evaluation, history: History) -> None:
        sys.stdout.write(f"ended {history.num_evaluations} {self.executor.num_suspects}\n")
        sys.stdout.flush()


def search(place: Path, executor: ExecutorFactory, observer: Observer, *, configurations: int) -> None:
    search_function(
        landscape,
        SPACE,
        LADDER,
        study="s",
        storage=f"sqlite:///{place}/study.db",
        plan=SearchPlan(configurations=configurations),
        executor=executor,
        observer=observer,
    )


def drive(address: str, place: Path, configurations: int) -> None:
    saying = Saying()

    def executor(workload: Workload) -> ClusterExecutor:
        saying.executor = RayExecutor(address=address)(workload)
        return saying.executor

    search(place, executor, saying, configurations=configurations)


if __name__ == "__main__":
    drive(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
