"""Audits that are killed again and again: what is measured is what an undisturbed audit measures, to the last digit."""

from __future__ import annotations

import time
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from frostline.audit.auditor import AuditPlan, audit_task
from frostline.audit.landscape import Landscape
from frostline.audit.stored_landscape import read_landscape
from frostline.records import Evaluation
from frostline.run.execution.options import TrainingOptions
from frostline.run.loop import Observer
from frostline.run.task_search import TaskSearch
from frostline.search.history import History
from tests.tiny_task import make

pytestmark = pytest.mark.multiprocess

PLACES = {"sqlite": "sqlite:///{}/audit.db", "journal": "{}/audit.log"}


class Counted(Observer):
    """Counts what has ended and is written down."""

    def __init__(self, counter: Any) -> None:
        self.counter = counter

    def ended(self, evaluation: Evaluation, history: History) -> None:
        self.counter.value += 1


def audit(place: str, folder: Path, counter: Any) -> Landscape:
    """Audit a task with repeats, which lie in studies of their own."""
    task = make()
    plan = AuditPlan.of(task, configurations=40, layers=(1, 3, 6), budgets=3, repeats=4, repeat_seeds=2)
    options = TrainingOptions(device="cpu", runs=folder / "runs")
    return audit_task(
        task, plan, study="a", storage=place, training=TaskSearch(options=options), observer=Counted(counter)
    )


def kill_again_and_again(place: str, folder: Path, context: Any, *, kills: int) -> int:
    """Audit to the end, and return how many processes were killed on the way; each has ended an evaluation before."""
    random, num_kills = Random(place.rpartition("/")[2]), 0
    while True:
        counter, ends_after = context.Value("i", 0, lock=False), random.randint(1, 4)
        process = context.Process(target=audit, args=(place, folder, counter))
        process.start()
        while process.is_alive() and (num_kills == kills or counter.value < ends_after):
            time.sleep(0.001)
        time.sleep(random.uniform(0.0, 0.03))
        process.kill()
        process.join(120)
        if process.exitcode != -9:
            assert process.exitcode == 0
            return num_kills
        num_kills += 1


# A process that is killed while it holds a journal's lock has the next one wait for Optuna's half minute.
@pytest.mark.torture
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("storage", "kills"), [("sqlite", 30), ("journal", 4)])
def test_a_killed_audit_measures_what_an_undisturbed_one_does(
    storage: str, kills: int, processes: Any, tmp_path: Path
) -> None:
    place = PLACES[storage].format(tmp_path)
    num_kills = kill_again_and_again(place, tmp_path, processes, kills=kills)
    found = read_landscape(place, "a")
    expected = audit(
        str(tmp_path / "undisturbed.log"), tmp_path / "undisturbed", processes.Value("i", 0, lock=False)
    )
    assert found.configurations == expected.configurations
    assert np.array_equal(found.scores, expected.scores, equal_nan=True)
    assert np.array_equal(found.repeats, expected.repeats, equal_nan=True)
    print(f"\naudit, {storage}: {num_kills} kills")  # noqa: T201
