"""Processes that are killed again and again: nothing is lost, nothing is done twice, and the answer is the undisturbed one.

``make torture`` kills a thousand; what was counted stands in docs/benchmarks/reliability.md. No evaluation is killed
twice in a row, for that sets it aside, which ``test_deaths`` tests: a process is killed only after it has ended an
evaluation.
"""

from __future__ import annotations

import os
import time
import uuid
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
from optuna.trial import TrialState

from frostline.records import Configuration, Cost, Evaluation, Fidelity, Job
from frostline.run.execution.executors import SerialExecutor
from frostline.run.execution.workload import Workload
from frostline.run.loop import Observer
from frostline.run.plan import SearchPlan
from frostline.run.tuning import search_function
from frostline.search.algorithms.halving import AsynchronousHalving, SuccessiveHalving
from frostline.search.algorithms.hyperband import Hyperband
from frostline.search.algorithms.realigned import RealignedSearch
from frostline.search.algorithms.sweep import FullFidelity, Sweep
from frostline.search.algorithms.watched import WatchedHalving
from frostline.search.history import History
from frostline.search.ladder import Ladder
from frostline.search.proposals.sampling import CMA_ES, QMC, RANDOM, TPE, Sampling
from frostline.store.backends.storage import close_storage, open_storage
from tests.postgresql import database_of
from tests.run.test_faults import LADDER, SPACE, bowl

pytestmark = pytest.mark.multiprocess


def realigned(*, ladder: Ladder, configurations: int) -> RealignedSearch:
    """Halving that learns how few layers shift the best learning rate."""
    return RealignedSearch(search=SuccessiveHalving(ladder=ladder, configurations=configurations), space=SPACE)


SERVER = os.environ.get("FROSTLINE_TEST_DATABASE", "")
SEARCHES: dict[str, partial[SearchPlan]] = {
    "halving": partial(SearchPlan, search=SuccessiveHalving, configurations=81),
    "asynchronous": partial(SearchPlan, search=AsynchronousHalving, configurations=81),
    "hyperband": partial(SearchPlan, search=Hyperband, configurations=81),
    "sweep": partial(SearchPlan, search=Sweep, configurations=40),
    "full": partial(SearchPlan, search=FullFidelity, configurations=81),
    "budget": partial(SearchPlan, budget=6),
    "realigned": partial(SearchPlan, search=realigned, configurations=81),
    "watched": partial(SearchPlan, search=partial(WatchedHalving, least_agreement=(0.9, 0.5)), configurations=81),
}
SAMPLERS = {sampling.name: sampling for sampling in (RANDOM, QMC, TPE, CMA_ES)}


@dataclass(frozen=True, kw_only=True)
class Case:
    search: str
    sampler: str
    storage: str
    processes: int
    kills: int

    def __str__(self) -> str:
        side = f"{self.processes} processes, " if self.processes > 1 else ""
        return f"{side}{self.search}, {self.sampler}, {self.storage}"

    @property
    def plan(self) -> SearchPlan:
        sampling: Sampling = SAMPLERS[self.sampler]
        plan = SEARCHES[self.search](sampling=sampling)
        # Two processes claim ahead, so that fewer of as many evaluations may be killed.
        return plan if self.processes == 1 else replace(plan, configurations=3 * plan.configurations)


class Priced(SerialExecutor):
    """Evaluates one by one, at a price that no clock says."""

    def __init__(self, workload: Workload) -> None:
        super().__init__(partial(priced, workload.evaluate))


def priced(evaluate: Any, job: Job) -> Evaluation:
    price = job.fidelity.samples * job.fidelity.trainable_layers / 1000
    return replace(evaluate(job), cost=Cost(seconds=price, samples=job.fidelity.samples))


def landscape(configuration: Configuration, fidelity: Fidelity) -> float:
    time.sleep(0.002)
    return bowl(configuration, fidelity)


class Told(Observer):
    """Counts what has ended and is written down, and leaves it in a file."""

    def __init__(self, counter: Any, log: Path) -> None:
        self.counter = counter
        self.log = log

    def ended(self, evaluation: Evaluation, history: History) -> None:
        with self.log.open("a") as file:
            file.write(f"{evaluation.number} {evaluation.rung}\n")
        self.counter.value += 1


def search(case: Case, place: str, counter: Any, log: Path) -> None:
    search_function(
        landscape, SPACE, LADDER, study="s", storage=place, plan=case.plan, executor=Priced, observer=Told(counter, log)
    )  # fmt: skip


def everything_in(place: str) -> list[Any]:
    storage = open_storage(place)
    trials = storage.get_all_trials(storage.get_study_id_from_name("s"))
    found = [(t.number, t.params, t.state, t.values, t.intermediate_values, t.user_attrs) for t in trials]
    close_storage(storage)
    return found


def kill_again_and_again(case: Case, place: str, context: Any, log: Path) -> int:
    """Run the search to its end, in several processes at once, and return how many were killed on the way."""
    random = Random(str(case))
    # What the dead had claimed, some of it ahead, has ended before another one dies: two deaths would set it aside.
    most_claimed = 70 if case.processes > 1 else 0
    num_ended_before, may_kill_at = 0, 0
    running: list[tuple[Any, Any, int, float]] = []
    num_kills = 0
    deadline = time.monotonic() + 1500
    while True:
        for process, _, _, _ in [one for one in running if not one[0].is_alive()]:
            process.join()
            if process.exitcode == 0:
                for other, _, _, _ in running:
                    other.join(60)
                    assert other.exitcode == 0
                return num_kills
            raise AssertionError(f"a process ended with {process.exitcode}")
        while len(running) < case.processes:
            # Without a lock: a process that is killed while it counts would keep it. It is the only one that counts.
            counter = context.Value("i", 0, lock=False)
            process = context.Process(target=search, args=(case, place, counter, log))
            process.start()
            running.append((process, counter, random.randint(1, 3), random.uniform(0.0, 0.02)))
        assert time.monotonic() < deadline, f"after {num_kills} kills the search is not over"
        time.sleep(0.001)
        for one in [one for one in running if num_kills < case.kills and one[1].value >= one[2]]:
            process, counter, _, delay = one
            num_ended = num_ended_before + sum(each[1].value for each in running)
            if num_ended < may_kill_at:
                continue
            time.sleep(delay)
            if process.is_alive():
                process.kill()
                process.join()
                if process.exitcode == 0:
                    continue
                num_kills += 1
                running.remove(one)
                num_ended_before += counter.value
                may_kill_at = num_ended + most_claimed


def check(case: Case, context: Any, tmp_path: Path) -> None:
    name = uuid.uuid4().hex[:8]
    place = {
        "sqlite": f"sqlite:///{tmp_path}/{name}.db",
        "journal": str(tmp_path / f"{name}.log"),
        "postgresql": SERVER,
    }[case.storage]
    with database_of(place, name) if case.storage == "postgresql" else nullcontext(place) as place:
        num_kills = kill_again_and_again(case, place, context, tmp_path / "told")
        found = everything_in(place)
    undisturbed = str(tmp_path / "undisturbed.log")
    search(case, undisturbed, context.Value("i", 0, lock=False), tmp_path / "undisturbed-told")
    expected = everything_in(undisturbed)
    if case.processes > 1 and case.search == "sweep":
        # Two processes may be at two rungs of one configuration when it fails at the first of them.
        found, expected = (
            [trial for trial in trials if trial[2] != TrialState.FAIL] for trials in (found, expected)
        )
    set_aside = [trial[0] for trial in found if "ended without a word" in f"{trial[5]}"]
    assert set_aside == [], "two deaths in one evaluation, which this test is to avoid, set it aside"
    assert found == expected
    told = (tmp_path / "told").read_text().splitlines()
    assert len(told) == len({*told}), "what was written down is not evaluated again"
    print(f"\n{case}: {num_kills} kills, {len(told)} evaluations")  # noqa: T201


SHORT = Case(search="asynchronous", sampler="tpe", storage="sqlite", processes=1, kills=4)
# A process that is killed while it holds a journal's lock has the next one wait for Optuna's half minute.
KILLS = {"sqlite": 55, "postgresql": 55, "journal": 4}
ALONE = [
    Case(search=search, sampler=sampler, storage=storage, processes=1, kills=KILLS[storage])
    for storage in ("sqlite", "journal")
    for search, sampler in [
        ("halving", "random"), ("halving", "tpe"), ("halving", "qmc"), ("halving", "cma-es"), ("asynchronous", "random"),
        ("asynchronous", "tpe"), ("asynchronous", "qmc"), ("asynchronous", "cma-es"), ("hyperband", "random"),
        ("hyperband", "tpe"), ("hyperband", "qmc"), ("sweep", "random"), ("sweep", "tpe"),
        ("full", "tpe"), ("budget", "random"), ("budget", "tpe"), ("realigned", "random"), ("watched", "random"),
    ]
]  # fmt: skip
SERVED = [
    Case(search=search, sampler=sampler, storage="postgresql", processes=1, kills=KILLS["postgresql"])
    for search, sampler in [("halving", "random"), ("asynchronous", "tpe"), ("hyperband", "qmc"), ("sweep", "tpe")]
]
# Which evaluations have ended when a sampler learns, or one climbs at once, depends on the processes: the others agree.
TOGETHER = [
    Case(search=search, sampler=sampler, storage=storage, processes=2, kills=KILLS[storage])
    for storage in ("sqlite", "journal", "postgresql")
    for search, sampler in [("halving", "random"), ("hyperband", "qmc"), ("sweep", "random"), ("full", "qmc")]
]


def test_a_killed_search_is_the_undisturbed_one(processes: Any, tmp_path: Path) -> None:
    check(SHORT, processes, tmp_path)


@pytest.mark.torture
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("case", [*ALONE, *SERVED, *TOGETHER], ids=str)
def test_a_search_killed_for_long_is_the_undisturbed_one(case: Case, processes: Any, tmp_path: Path) -> None:
    if case.storage == "postgresql" and not SERVER:
        pytest.skip("FROSTLINE_TEST_DATABASE names no database")
    check(case, processes, tmp_path)
