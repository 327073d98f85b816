"""Running jobs: what raises, diverges or runs out of memory is an evaluation like any other."""

from __future__ import annotations

import gc
import math
import os
import random
import socket
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from optuna.distributions import FloatDistribution

import frostline
from frostline.errors import StudyError
from frostline.records import Configuration, Evaluation, Fidelity, Job, Request, Status
from frostline.run.execution.executors import Evaluator, RememberingExecutor, SerialExecutor, is_out_of_memory
from frostline.run.execution.in_process import in_process_executor
from frostline.run.execution.stations import asking
from frostline.run.plan import SearchPlan
from frostline.run.tuning import search_function
from frostline.training.black_box import BlackBox
from frostline.training.machine.threads import Threads
from tests.executing import evaluations_by
from tests.run.execution.test_side_by_side import workload_of

FIDELITY = Fidelity(trainable_layers=2, samples=100)


def job(**hyperparameters: float) -> Job:
    return Job(configuration=Configuration(number=3, hyperparameters=hyperparameters), rung=1, fidelity=FIDELITY)


def evaluate(train: Any, **hyperparameters: float) -> Evaluation:
    executor = SerialExecutor(Evaluator(train=BlackBox(train=train, root_seed=0)))
    (evaluation,) = evaluations_by(executor, [job(**hyperparameters)])
    assert (evaluation.number, evaluation.rung, evaluation.fidelity) == (3, 1, FIDELITY)
    return evaluation


@pytest.mark.parametrize("score", [0.5, 1, np.float32(0.5), torch.tensor(0.5), torch.tensor([0.5])])
def test_a_score_is_a_number(score: Any) -> None:
    evaluation = evaluate(lambda configuration, fidelity: score)
    assert evaluation.status is Status.FINISHED
    assert evaluation.score == float(score)
    assert evaluation.cost.samples == 100


def test_a_training_that_yields_keeps_its_curve() -> None:
    def train(configuration: Configuration, fidelity: Fidelity) -> Iterator[tuple[int, float]]:
        for samples in np.arange(20, fidelity.samples + 1, 40):
            yield samples, configuration["rate"] / samples

    evaluation = evaluate(train, rate=10.0)
    assert [(point.samples, point.score) for point in evaluation.curve] == [(20, 0.5), (60, 10 / 60), (100, 0.1)]
    assert evaluation.score == 0.1


@pytest.mark.parametrize("score", [math.nan, math.inf, torch.tensor(math.nan)])
def test_a_score_that_is_not_finite_is_a_divergence(score: Any) -> None:
    evaluation = evaluate(lambda configuration, fidelity: score)
    assert (evaluation.status, evaluation.score) == (Status.DIVERGED, None)
    assert evaluation.reason == f"the score after 100 samples is {float(score)}"


def test_a_curve_ends_where_it_diverges() -> None:
    def train(configuration: Configuration, fidelity: Fidelity) -> Iterator[tuple[int, float]]:
        yield 10, 1.0
        yield 20, math.nan
        raise AssertionError("training went on after it had diverged")

    evaluation = evaluate(train)
    assert evaluation.status is Status.DIVERGED
    assert [point.samples for point in evaluation.curve] == [10]


def nothing() -> Iterator[tuple[int, float]]:
    return iter(())


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (None, "returned None: return a score"),
        ("0.5", "returned '0.5': return a score"),
        ([0.5], "returned [0.5]: return a score"),
        (nothing(), "ended without a score"),
        (iter([0.5]), "yielded 0.5: yield pairs"),
        (iter([(10, "good")]), "yielded (10, 'good'): yield pairs"),
    ],
)
def test_what_is_no_score_is_named(result: Any, words: str) -> None:
    evaluation = evaluate(lambda configuration, fidelity: result)
    assert evaluation.status is Status.FAILED
    assert evaluation.reason is not None
    assert words in evaluation.reason


def test_a_training_that_raises_is_recorded_with_the_place() -> None:
    def train(configuration: Configuration, fidelity: Fidelity) -> float:
        return configuration["missing"]  # type: ignore[return-value]

    evaluation = evaluate(train)
    assert (evaluation.status, evaluation.score) == (Status.FAILED, None)
    assert evaluation.reason is not None
    assert evaluation.reason.startswith("KeyError: 'missing' (")


def test_an_interrupt_is_no_failure() -> None:
    def train(configuration: Configuration, fidelity: Fidelity) -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(train)


def test_running_out_of_memory_is_recorded_and_the_memory_given_back(device: torch.device) -> None:
    kept: list[weakref.ref[torch.Tensor]] = []

    def train(configuration: Configuration, fidelity: Fidelity) -> float:
        held = torch.zeros(1000, device=device)
        kept.append(weakref.ref(held))
        too_much = torch.empty(2**50, device=device)
        return float(too_much[0] + held[0])

    evaluation = evaluate(train)
    assert evaluation.status is Status.FAILED
    assert evaluation.reason is not None
    assert evaluation.reason.startswith("out of memory: ")
    assert "\n" not in evaluation.reason
    assert kept[0]() is None, "the failed evaluation still holds its tensors"
    gc.collect()


def test_what_is_out_of_memory() -> None:
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(RuntimeError("shapes differ"))


def test_every_training_starts_from_the_same_generators_and_leaves_them_alone() -> None:
    def train(configuration: Configuration, fidelity: Fidelity) -> float:
        return float(torch.rand(1)) + random.random() + float(np.random.rand())  # noqa: NPY002

    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tobytes()  # noqa: NPY002
    scores = {evaluate(train).score for _ in range(3)}
    assert len(scores) == 1
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (random.getstate(), np.random.get_state()[1].tobytes())  # noqa: NPY002


def test_an_executor_is_closed_where_its_study_cannot_be_opened(tmp_path: Path) -> None:
    closed: list[bool] = []

    class Closing(SerialExecutor):
        def close(self) -> None:
            closed.append(True)

    def search(configurations: int) -> None:
        search_function(
            lambda configuration, fidelity: 1.0 / fidelity.samples,
            {"x": FloatDistribution(0.0, 1.0)},
            frostline.Ladder.explicit(
                [(1, 1), (1, 9 * configurations)], num_layers=1, full_samples=9 * configurations
            ),
            study="s",
            storage=f"sqlite:///{tmp_path}/study.db",
            plan=SearchPlan(configurations=9),
            executor=lambda workload: Closing(workload.evaluate),
        )

    search(1)
    with pytest.raises(StudyError):
        search(2)
    assert len(closed) == 2


def test_an_executor_tells_what_it_trains_while_it_does() -> None:
    told: list[Any] = []

    def train(configuration: Configuration, fidelity: Fidelity) -> float:
        told.extend(wrapped.stations())
        return 0.5

    executor = SerialExecutor(Evaluator(train=BlackBox(train=train, root_seed=0)))
    wrapped = RememberingExecutor(known=lambda _: None, executor=executor)
    begin = time.time()
    assert len([*evaluations_by(wrapped, [job()])]) == 1
    (station,) = told
    assert (station.host, station.pid, station.requests) == (socket.gethostname(), os.getpid(), (Request(3, 1),))
    assert begin <= station.since <= time.time()
    assert station.used_bytes > 2**20
    (after,) = executor.stations()
    assert (after.requests, after.since) == ((), None)
    # Who knows nothing of it is an executor all the same.
    assert asking(Silent())() is None  # type: ignore[arg-type]


class Silent:
    """An executor of somebody else's, as far as stations are concerned."""


@pytest.mark.usefixtures("nothing_frozen")
def test_collections_after_populations_pass_over_what_was_there_before(tmp_path: Path) -> None:
    executor = in_process_executor(workload_of(tmp_path), Threads.as_they_are())
    assert gc.get_freeze_count() > 0
    executor.close()
    assert gc.get_freeze_count() == 0
