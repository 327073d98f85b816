"""A training function that ends its process: the search goes on, and sets aside what processes die of."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import FloatDistribution

from frostline.records import Configuration, Evaluation, Fidelity, Job, Request, Status
from frostline.run.execution.workload import Workload
from frostline.run.plan import SearchPlan
from frostline.run.tuning import search_function
from frostline.search.ladder import Ladder
from frostline.search.spaces.space import SearchSpace
from frostline.store.reading import read_study

pytestmark = pytest.mark.multiprocess

SPACE = SearchSpace(distributions={"rate": FloatDistribution(0.0, 1.0)})
LADDER = Ladder.diagonal(num_layers=10, full_samples=1000)
POISON = 4
ENDS: dict[str, Callable[[], Any]] = {
    "os._exit": lambda: os._exit(3),
    "segmentation fault": lambda: ctypes.string_at(0),
    "killed": lambda: os.kill(os.getpid(), 9),
}


class Train:
    """Ends its process when it comes to one of the configurations."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __call__(self, configuration: Configuration, fidelity: Fidelity) -> float:
        if configuration.number == POISON:
            ENDS[self.how]()
        rate = configuration["rate"]
        assert isinstance(rate, float)
        return rate


class Together:
    """Takes four jobs at once, of which all are under way until they have ended; the last that came is first."""

    def __init__(self, workload: Workload) -> None:
        self.evaluate = workload.evaluate
        self.jobs: list[Job] = []

    def room(self) -> int:
        return 4 - len(self.jobs)

    def submit(self, jobs: Sequence[Job]) -> None:
        self.jobs += jobs

    def next_ended(self) -> Evaluation:
        return self.evaluate(self.jobs.pop())

    def forget(self, number: int) -> None:
        pass

    def close(self) -> None:
        pass


def search(place: str, how: str, kind: str = "alone") -> None:
    executor = {"executor": Together} if kind == "together" else {}
    search_function(
        Train(how), SPACE, LADDER, study="s", storage=place, plan=SearchPlan(configurations=9), **executor  # type: ignore[arg-type]
    )  # fmt: skip


def run(processes: multiprocessing.context.ForkServerContext, *arguments: str) -> int | None:
    process = processes.Process(target=search, args=arguments)
    process.start()
    process.join(120)
    return process.exitcode


def check_all_but_one(place: str, died: Request) -> None:
    history = read_study(place, "s").history
    failed = [evaluation for evaluation in history.evaluations() if evaluation.status is not Status.FINISHED]
    assert [evaluation.request for evaluation in failed] == [died]
    assert failed[0].reason == "the process that trained it ended without a word, and did so twice"
    assert history.num_evaluations == 9 + 3 + 1


@pytest.mark.parametrize(
    "how", [pytest.param(how, marks=[pytest.mark.torture] * (how == "killed")) for how in ENDS]
)
@pytest.mark.parametrize("storage", ["sqlite", pytest.param("journal", marks=pytest.mark.torture)])
def test_what_processes_die_of_twice_is_set_aside(
    how: str, storage: str, processes: multiprocessing.context.ForkServerContext, tmp_path: Path
) -> None:
    place = f"sqlite:///{tmp_path}/s.db" if storage == "sqlite" else str(tmp_path / "s.log")
    assert [run(processes, place, how) == 0 for _ in range(3)] == [False, False, True]
    check_all_but_one(place, Request(POISON, 0))


def test_of_several_under_way_only_the_one_that_processes_die_of_is_set_aside(
    processes: multiprocessing.context.ForkServerContext, tmp_path: Path
) -> None:
    place = str(tmp_path / "s.log")
    # Twice beside others, then twice by itself.
    assert [run(processes, place, "os._exit", "together") == 0 for _ in range(5)] == [False] * 4 + [True]
    check_all_but_one(place, Request(POISON, 0))


def test_what_two_workers_at_once_die_of_is_set_aside_by_a_third(
    processes: multiprocessing.context.ForkServerContext, tmp_path: Path
) -> None:
    place = f"sqlite:///{tmp_path}/s.db"
    pair = [processes.Process(target=search, args=(place, "os._exit")) for _ in range(2)]
    for process in pair:
        process.start()
    for process in pair:
        process.join(120)
    # One may be late, find the other dead of it, and die of it too; the last that lives has it set aside.
    exits = [process.exitcode for process in pair]
    while 0 not in exits:
        exits.append(run(processes, place, "os._exit"))
    # Who claims several at once does not die of one alone, and is not counted: then more do.
    assert 2 <= len(exits) - exits.count(0) <= 4
    check_all_but_one(place, Request(POISON, 0))


def test_a_search_killed_once_in_an_evaluation_loses_nothing(
    processes: multiprocessing.context.ForkServerContext, tmp_path: Path
) -> None:
    place = str(tmp_path / "s.log")
    assert run(processes, place, "killed") != 0
    search_function(
        score, SPACE, LADDER, study="s", storage=place, plan=SearchPlan(configurations=9)
    )  # fmt: skip
    assert {evaluation.status for evaluation in read_study(place, "s").history.evaluations()} == {Status.FINISHED}


def score(configuration: Configuration, fidelity: Fidelity) -> float:
    rate = configuration["rate"]
    assert isinstance(rate, float)
    return rate


score.__qualname__ = Train.__qualname__  # the same task


@pytest.mark.parametrize("code", [0, 3, None])
def test_a_training_function_that_calls_sys_exit_has_failed(code: int | None, tmp_path: Path) -> None:
    def train(configuration: Configuration, fidelity: Fidelity) -> float:
        if configuration.number == POISON:
            sys.exit(code)
        return score(configuration, fidelity)

    result = search_function(
        train, SPACE, LADDER, study="s", storage=":memory:", plan=SearchPlan(configurations=9)
    )
    (failed,) = [each for each in result.history.evaluations() if each.status is Status.FAILED]
    assert failed.number == POISON
    assert failed.reason is not None
    assert failed.reason.startswith("SystemExit: ")
    assert "which would have ended the search (test_deaths.py:" in failed.reason
