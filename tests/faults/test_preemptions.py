"""Machines that are taken away without a word: a training that had come further each time is not set aside."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import frostline
from frostline.objectives import pending_checkpoint
from frostline.records import Configuration, Request, Status
from frostline.run.execution.workload import TaskTraining, Workload
from frostline.run.loop import job_of
from frostline.run.outcome.kept_samples import KeptSamples
from frostline.search.alignment import IDENTITY, Alignment
from frostline.search.history import History
from frostline.search.ladder import Ladder
from frostline.store.reading import read_study
from frostline.store.sharing.deaths import Deaths
from tests import tiny_task

PREEMPTED = 2
SAMPLES = 320


def objective(trial: frostline.Trial, *, keeps: bool) -> float:
    """Loses its machine ten steps after it went on with a configuration, four times if it can go on with it."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 1))
    trial.freeze(model)
    rate = trial.suggest_float("learning_rate", 1e-3, 1.0, log=True)
    begin = trial.samples_seen
    for _ in trial.batches([torch.zeros(8, 2)]):
        if keeps and trial.samples_seen - begin == 64:
            trial.checkpoint({"rate": rate})
        if trial.number == PREEMPTED and trial.trainable_layers == 1 and trial.samples_seen - begin == 80:
            os._exit(9)
    return rate


def search(folder: Path, *, keeps: bool) -> None:
    os.chdir(folder)
    # What is checkpointed in the first seconds waits, and machines are lost sooner here.
    pending_checkpoint.SECONDS_BETWEEN_CHECKPOINTS = 0.0
    frostline.tune(
        partial(objective, keeps=keeps),
        samples=SAMPLES,
        ladder=lambda num_layers, full_samples: Ladder.explicit(
            [(1, full_samples), (num_layers, full_samples)], num_layers=num_layers, full_samples=full_samples
        ),
        configurations=4,
        study="s",
        storage="s.log",
    )


@pytest.mark.multiprocess
@pytest.mark.parametrize("keeps", [True, False], ids=["with checkpoints", "without"])
def test_only_what_dies_twice_at_one_place_is_set_aside(keeps: bool, processes: Any, tmp_path: Path) -> None:
    ends = []
    while 0 not in ends:
        process = processes.Process(target=search, args=(tmp_path,), kwargs={"keeps": keeps})
        process.start()
        process.join(120)
        ends.append(process.exitcode)
    # It begins at 0, 64, 128, 192 and 256 samples, and from there to the end there are less than 80.
    assert ends == ([9, 9, 9, 9, 0] if keeps else [9, 9, 0])
    history = read_study(f"{tmp_path}/s.log", "s").history
    evaluation = history.evaluation(PREEMPTED, 0)
    assert evaluation is not None
    assert evaluation.status is (Status.FINISHED if keeps else Status.FAILED)
    others = [each for each in history.evaluations() if each.request != evaluation.request]
    assert {each.status for each in others} == {Status.FINISHED}


def test_a_death_further_on_is_the_first() -> None:
    deaths = Deaths().with_worker("a", was_alone=True, samples=0).with_worker("b", was_alone=False, samples=0)
    assert deaths.is_suspect
    further = deaths.with_worker("c", was_alone=True, samples=100)
    assert further == Deaths(alone=("c",), samples=100)
    assert not further.with_worker("c", was_alone=True, samples=100).is_proven
    # One that went on from an older checkpoint, as on a machine that does not see the folder, did not come further.
    assert further.with_worker("d", was_alone=True, samples=0) == Deaths(alone=("c", "d"), samples=100)


@pytest.mark.parametrize("alignment", [IDENTITY, Alignment(factors={2: {"learning_rate": 0.5}})])
def test_a_task_goes_on_from_the_rung_that_is_kept(alignment: Alignment, tmp_path: Path) -> None:
    task = tiny_task.task
    ladder = Ladder.explicit([(2, 128), (2, 256), (6, 1024)], num_layers=6, full_samples=1024)
    options = frostline.TrainingOptions(runs=tmp_path)
    training = TaskTraining(task=task, options=options, study="s", seed=0)
    kept = KeptSamples(workload=Workload(training=training, ladder=ladder), alignment=alignment)
    history = History("minimize")
    configuration = Configuration(number=0, hyperparameters=task.defaults)
    history.add_configuration(configuration)
    aligned: Any = alignment.aligned(configuration, ladder.rungs[0])
    history.finish(training(job_of(aligned, 0, ladder, history)))
    assert [kept(Request(0, rung), history) for rung in range(3)] == [0, 128, 0]
    for checkpoint in tmp_path.rglob("*.pt"):
        checkpoint.unlink()
    assert kept(Request(0, 1), history) == 0
