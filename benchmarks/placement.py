"""Placement on a simulated cluster: 1,000 devices of three sizes, 100,000 evaluations, real decisions, a false clock.

    python benchmarks/placement.py [--evaluations 100000] [--json FILE]

Printed is, for several clusters and both kinds of halving: how much of their time devices work, in all and until the search
has handed out its last new configuration; how much they would if all jobs were known before (packed offline: the longest of
what needs most first, and nobody waits for a promotion), and the bound that no schedule can beat; what a choice of the
placement takes of a core, and a decision of the whole loop; how many jobs wait at most, and what the placement holds for
that, in the first half and in the second.
"""

from __future__ import annotations

import argparse
import heapq
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from optuna.distributions import FloatDistribution
from rich.console import Console
from rich.table import Table

from frostline.records import Cost, Evaluation, Job, Request, Status
from frostline.run.execution.placement import Choice
from frostline.run.execution.simulated import SimulatedDevices
from frostline.run.ledger import MemoryLedger
from frostline.run.loop import Observer, climb
from frostline.search.algorithms.halving import AsynchronousHalving, SuccessiveHalving
from frostline.search.history import History
from frostline.search.ladder import Ladder
from frostline.search.proposals.sampling import RANDOM, Draws
from frostline.search.spaces.space import SearchSpace
from frostline.seeding import derive_seed

GIB = 2**30
SPACE = SearchSpace(distributions={"x": FloatDistribution(0.0, 1.0)})
# Four rungs, of which each takes a third of the evaluations of the one before, each three times as long.
LADDER = Ladder.explicit([(2, 1000), (5, 3000), (12, 9000), (24, 27000)], num_layers=24, full_samples=27000)
NEEDS = {2: 4 * GIB, 5: 7 * GIB, 12: 20 * GIB, 24: 60 * GIB}
SMALL, MEDIUM, LARGE = 8 * GIB, 24 * GIB, 80 * GIB
CLUSTERS = {
    "many small": (800, 150, 50),
    "balanced": (500, 250, 250),
    "many large": (200, 300, 500),
}
SEARCHES = {"asynchronous": AsynchronousHalving, "halving": SuccessiveHalving}


@dataclass(frozen=True)
class Row:
    cluster: str
    search: str
    evaluations: int
    utilisation: float
    steady_utilisation: float
    """Until the search handed out its last new configuration: after that it waits for the last ones to climb."""
    offline_utilisation: float
    bound_utilisation: float
    placement_ms: float
    slowest_placement_ms: float
    decision_ms: float
    slowest_decision_ms: float
    most_waiting: int
    first_half_kib: float
    second_half_kib: float

    @property
    def ratio(self) -> float:
        return self.utilisation / self.offline_utilisation


class Timed(SimulatedDevices):
    """Measures what it is benchmarked for: the time of each choice, who waits, and when each job began."""

    def __init__(self, devices: Sequence[int]) -> None:
        super().__init__(evaluate, devices=devices, needed_bytes=lambda job: NEEDS[job.fidelity.trainable_layers])
        self.num_devices = len(devices)
        self.placement_seconds: list[float] = []
        self.most_waiting = 0
        self.jobs: list[tuple[int, float]] = []
        self.last_new = 0.0
        """When the search handed out its last new configuration, on the simulated clock."""
        self.busy_before = 0.0
        """What the devices had worked by then."""
        self._choose = self.placement.choose
        self.placement.choose = self._timed_choose  # type: ignore[method-assign]
        self._plain_evaluate, self._evaluate = self._evaluate, self._noted

    def _timed_choose(self) -> Choice[int, Request] | None:
        begin = time.thread_time()
        choice = self._choose()
        self.placement_seconds.append(time.thread_time() - begin)
        self.most_waiting = max(self.most_waiting, self.placement.num_waiting)
        return choice

    def _noted(self, job: Job) -> Evaluation:
        evaluation = self._plain_evaluate(job)
        self.jobs.append((self._needed_bytes(job), evaluation.cost.seconds))
        if job.rung == 0:
            under_way = sum(ends - self.seconds for ends, *_ in self._under_way)
            self.last_new, self.busy_before = self.seconds, self.busy_seconds - under_way
        return evaluation


class Marks(Observer):
    """The processor time at each evaluation, and the placement's memory half way and at the most."""

    def __init__(self, executor: Timed, num_evaluations: int) -> None:
        self.seconds = [time.thread_time()]
        self.held_bytes: list[int] = []
        self._executor = executor
        self._every = max(1, num_evaluations // 20)

    def ended(self, evaluation: Evaluation, history: History) -> None:
        self.seconds.append(time.thread_time())
        if history.num_evaluations % self._every == 0:
            placement = self._executor.placement
            shelves = (placement._waiting, placement._free, placement._devices)
            self.held_bytes.append(
                sum(
                    map(
                        sys.getsizeof,
                        [each for shelf in shelves for each in (shelf._size_of, *shelf._shelves.values())],
                    )
                )
            )


def evaluate(job: Job) -> Evaluation:
    """A score that few layers tell with noise, and a duration that differs by a factor of two."""
    number = job.configuration.number
    noise = np.random.default_rng(derive_seed(0, number, job.rung)).standard_normal(2)
    x = job.configuration["x"]
    assert isinstance(x, float)
    return Evaluation(
        number=number,
        rung=job.rung,
        fidelity=job.fidelity,
        status=Status.FINISHED,
        score=x + 0.1 * float(noise[0]) / (1 + job.rung),
        cost=Cost(
            seconds=job.fidelity.samples / 1000 * float(np.exp(0.3 * noise[1])), samples=job.fidelity.samples
        ),
    )


def measured(cluster: str, search: str, num_evaluations: int) -> Row:
    """Run one search on one cluster."""
    executor, marks = run(cluster, search, num_evaluations)
    devices = devices_of(cluster)
    work = sum(seconds for _, seconds in executor.jobs)
    decisions = np.diff(marks.seconds)
    half = len(marks.held_bytes) // 2
    return Row(
        cluster=cluster,
        search=search,
        evaluations=len(executor.jobs),
        utilisation=work / (len(devices) * executor.seconds),
        steady_utilisation=executor.busy_before / (len(devices) * executor.last_new),
        offline_utilisation=work / (len(devices) * packed_offline(executor.jobs, devices)),
        bound_utilisation=work / (len(devices) * lower_bound(executor.jobs, devices)),
        placement_ms=1e3 * statistics.median(executor.placement_seconds),
        slowest_placement_ms=1e3 * float(np.quantile(executor.placement_seconds, 0.999)),
        decision_ms=1e3 * float(np.median(decisions)),
        slowest_decision_ms=1e3 * float(np.quantile(decisions, 0.999)),
        most_waiting=executor.most_waiting,
        first_half_kib=max(marks.held_bytes[:half]) / 1024,
        second_half_kib=max(marks.held_bytes[half:]) / 1024,
    )


def run(cluster: str, search: str, num_evaluations: int) -> tuple[Timed, Marks]:
    # Each rung takes a third of those of the one before.
    configurations = round(num_evaluations / (1 + 1 / 3 + 1 / 9 + 1 / 27))
    executor = Timed(devices_of(cluster))
    marks = Marks(executor, num_evaluations)
    draws = Draws(space=SPACE, sampling=RANDOM, direction="minimize", root_seed=0)
    climb(
        MemoryLedger("minimize"),
        SEARCHES[search](ladder=LADDER, configurations=configurations),
        draws,
        executor,
        marks,
    )
    return executor, marks


def devices_of(cluster: str) -> list[int]:
    counts = zip((SMALL, MEDIUM, LARGE), CLUSTERS[cluster], strict=True)
    return [size for size, number in counts for _ in range(number)]


def packed_offline(jobs: Sequence[tuple[int, float]], devices: Sequence[int]) -> float:
    """When all would have ended: what needs most first, the longest of it first, each where it can begin soonest."""
    ends: dict[int, list[tuple[float, int]]] = {}
    for number, size in enumerate(devices):
        ends.setdefault(size, []).append((0.0, number))
    for heap in ends.values():
        heapq.heapify(heap)
    for needed, seconds in sorted(jobs, reverse=True):
        size = min((size for size in ends if size >= needed), key=lambda size: (ends[size][0][0], size))
        begin, number = heapq.heappop(ends[size])
        heapq.heappush(ends[size], (begin + seconds, number))
    return max(end for heap in ends.values() for end, _ in heap)


def lower_bound(jobs: Sequence[tuple[int, float]], devices: Sequence[int]) -> float:
    """What no schedule can beat: the work of what needs so much, divided among all that hold it."""
    bounds = [max(seconds for _, seconds in jobs)]
    for least in {needed for needed, _ in jobs}:
        work = sum(seconds for needed, seconds in jobs if needed >= least)
        bounds.append(work / sum(size >= least for size in devices))
    return max(bounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--evaluations", type=int, default=100_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = [measured(cluster, search, options.evaluations) for cluster in CLUSTERS for search in SEARCHES]
    show(rows)
    if options.json:
        record: list[dict[str, Any]] = [{**asdict(row), "ratio": row.ratio} for row in rows]
        options.json.write_text(json.dumps(record, indent=1) + "\n")


def show(rows: Sequence[Row]) -> None:
    columns = (
        "cluster", "search", "evaluations", "busy", "steady", "offline", "bound", "of offline", "placement ms", "99.9 %",
        "decision ms", "99.9 %", "waiting", "KiB", "then",
    )  # fmt: skip
    table = Table(*columns)
    for row in rows:
        table.add_row(
            row.cluster, row.search, f"{row.evaluations:,}", f"{row.utilisation:.3f}", f"{row.steady_utilisation:.3f}",
            f"{row.offline_utilisation:.3f}", f"{row.bound_utilisation:.3f}", f"{row.ratio:.3f}", f"{row.placement_ms:.3f}",
            f"{row.slowest_placement_ms:.3f}", f"{row.decision_ms:.3f}", f"{row.slowest_decision_ms:.2f}",
            f"{row.most_waiting:,}", f"{row.first_half_kib:.0f}", f"{row.second_half_kib:.0f}",
        )  # fmt: skip
    Console().print(table)


if __name__ == "__main__":
    main()
