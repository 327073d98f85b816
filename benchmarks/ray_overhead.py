"""What the driver of a Ray cluster costs: 5,000 evaluations of a millisecond on 1, 2 and 4 workers on this machine.

    python benchmarks/ray_overhead.py [--evaluations 5000] [--workers 1,2,4] [--tune PYTHON] [--json FILE]

Printed are evaluations a second, how many times those of one worker that is, and what the driver's own process takes of a
core for each evaluation: the executor by itself, and all of it, with the search and its storage in memory. With ``--tune``
the interpreter of an environment with ``ray[tune]`` does the same beside it: Ray Tune with ASHA, in trials of one to nine
reports, of which each counts; ``--tune-evaluations`` of them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from optuna.distributions import FloatDistribution
from ray.cluster_utils import Cluster
from rich.console import Console
from rich.table import Table

from frostline.integrations import RayExecutor
from frostline.protocols import Executor
from frostline.records import Configuration, Evaluation, Fidelity, Job
from frostline.run.execution.workload import Workload
from frostline.run.plan import SearchPlan
from frostline.run.tuning import search_function
from frostline.search.algorithms.halving import AsynchronousHalving
from frostline.search.ladder import Ladder
from frostline.search.spaces.space import SearchSpace

SPACE = SearchSpace(distributions={f"x{i}": FloatDistribution(0.0, 1.0) for i in range(5)})
LADDER = Ladder.explicit([(1, 1), (1, 3), (1, 9)], num_layers=1, full_samples=9)
MIB = 2**20

# The same for Ray Tune: a step of a millisecond, so that a trial that climbs costs as many as it has reports.
TUNE = """
import json, sys, time
import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler

workers, trials, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level="ERROR")

def train(config):
    for step in range(1, 10):
        time.sleep(0.001)
        tune.report({"score": sum(config.values()), "step": step})

begin, cpu = time.perf_counter(), time.process_time()
results = tune.Tuner(
    tune.with_resources(train, {"cpu": 1}),
    param_space={f"x{i}": tune.uniform(0, 1) for i in range(5)},
    tune_config=tune.TuneConfig(
        num_samples=trials, metric="score", mode="min", max_concurrent_trials=workers, reuse_actors=True,
        scheduler=ASHAScheduler(time_attr="step", max_t=9, grace_period=1, reduction_factor=3),
    ),
    run_config=tune.RunConfig(storage_path=folder, verbose=0),
).fit()
steps = sum(int(result.metrics["step"]) for result in results)
print(json.dumps({"seconds": time.perf_counter() - begin, "cpu": time.process_time() - cpu, "evaluations": steps}))
"""


@dataclass(frozen=True)
class Row:
    program: str
    workers: int
    evaluations: int
    seconds: float
    executor_ms: float | None
    """The processor time of the executor in the driver, an evaluation; not known of Ray Tune."""
    driver_ms: float
    """The processor time of the driver's process, an evaluation."""

    @property
    def per_second(self) -> float:
        return self.evaluations / self.seconds


class Timed:
    """An executor, and the processor time that this thread spends in it."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self.cpu_seconds = 0.0
        self.began = self.ended = 0.0
        self.num_ended = 0

    def room(self) -> int:
        return self._timed(self.executor.room)

    def submit(self, jobs: Sequence[Job]) -> None:
        self._timed(lambda: self.executor.submit(jobs))

    def next_ended(self) -> Evaluation:
        evaluation: Evaluation = self._timed(self.executor.next_ended)
        # Workers take seconds to start: it counts from the first end on.
        self.ended = time.perf_counter()
        self.began = self.began or self.ended
        self.num_ended += 1
        return evaluation

    def forget(self, number: int) -> None:
        self.executor.forget(number)

    def close(self) -> None:
        self.executor.close()

    def _timed(self, call: Callable[[], Any]) -> Any:
        begin = time.thread_time()
        result = call()
        self.cpu_seconds += time.thread_time() - begin
        return result


def slow(configuration: Configuration, fidelity: Fidelity) -> float:
    time.sleep(0.001)
    return sum(float(f"{value}") for value in configuration.hyperparameters.values()) / fidelity.samples


def measured(address: str, workers: int, num_evaluations: int) -> Row:
    executors: list[Timed] = []

    def executor(workload: Workload) -> Timed:
        executors.append(Timed(RayExecutor(address=address, workers_per_node=workers)(workload)))
        return executors[0]

    begin = time.process_time()
    search_function(
        slow,
        SPACE,
        LADDER,
        study="s",
        storage=":memory:",
        plan=SearchPlan(search=AsynchronousHalving, configurations=round(num_evaluations / (1 + 1 / 3 + 1 / 9))),
        executor=executor,
    )
    driver_seconds = time.process_time() - begin
    (timed,) = executors
    return Row(
        program="frostline",
        workers=workers,
        evaluations=timed.num_ended,
        seconds=timed.ended - timed.began,
        executor_ms=1e3 * timed.cpu_seconds / timed.num_ended,
        driver_ms=1e3 * driver_seconds / timed.num_ended,
    )


def measured_by_tune(python: str, workers: int, num_evaluations: int) -> Row:
    # ASHA stops two in three at the first report, and two in three of the others at the third.
    trials = round(num_evaluations / (1 + 2 / 3 + 6 / 9))
    with tempfile.TemporaryDirectory() as folder:
        command = [python, "-c", TUNE, f"{workers}", f"{trials}", folder]
        ended = subprocess.run(command, check=True, capture_output=True, text=True)
    record = json.loads(ended.stdout.splitlines()[-1])
    return Row(
        program="Ray Tune, ASHA",
        workers=workers,
        evaluations=record["evaluations"],
        seconds=record["seconds"],
        executor_ms=None,
        driver_ms=1e3 * record["cpu"] / record["evaluations"],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--evaluations", type=int, default=5000)
    parser.add_argument("--workers", default="1,2,4")
    parser.add_argument("--tune", help="a Python with ray[tune] of the same version")
    parser.add_argument(
        "--tune-evaluations", type=int, default=1000, help="of Ray Tune, which takes longer for each"
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows: list[Row] = []
    for workers in map(int, options.workers.split(",")):
        # Cores by name: they sleep.
        head = {
            "num_cpus": workers,
            "memory": 2048 * MIB,
            "include_dashboard": False,
            "object_store_memory": 80 * MIB,
        }
        cluster = Cluster(initialize_head=True, head_node_args=head)
        rows.append(measured(cluster.address, workers, options.evaluations))
        cluster.shutdown()
        if options.tune:
            rows.append(measured_by_tune(options.tune, workers, options.tune_evaluations))
    show(rows)
    if options.json:
        options.json.write_text(
            json.dumps([{**asdict(row), "per_second": row.per_second} for row in rows], indent=1) + "\n"
        )


def show(rows: Sequence[Row]) -> None:
    table = Table("program", "workers", "evaluations", "a second", "times one", "executor ms", "driver ms")
    for row in rows:
        one = next(other for other in rows if other.program == row.program)
        table.add_row(
            row.program, f"{row.workers}", f"{row.evaluations:,}", f"{row.per_second:.0f}",
            f"{row.per_second / one.per_second:.2f}", "" if row.executor_ms is None else f"{row.executor_ms:.2f}",
            f"{row.driver_ms:.2f}",
        )  # fmt: skip
    Console().print(table)


if __name__ == "__main__":
    main()
