"""What memory cannot hold is refused before anything runs."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path

import pytest
from torch import nn

from frostline.costs.admission import require_memory
from frostline.costs.capacity import Capacity
from frostline.errors import NotEnoughMemoryError
from frostline.records import Fidelity, Status
from frostline.run.execution.options import TrainingOptions
from frostline.run.single_training import train_task
from frostline.run.tuning import tune_task
from frostline.store.backends.storage import MEMORY
from frostline.tasks.builtin.digits_mlp import digits_mlp


def test_a_training_that_does_not_fit_is_refused_with_what_does() -> None:
    task = digits_mlp()
    available = Capacity(task).required(4)
    require_memory(task, trainable_layers=4, available=available)
    with pytest.raises(NotEnoughMemoryError, match=r"training 9 of 9 layers .* train at most 4 layers here"):
        require_memory(task, trainable_layers=9, available=available)
    with pytest.raises(NotEnoughMemoryError, match=r"use a smaller batch"):
        require_memory(task, trainable_layers=1, available=500_000)


def test_small_models_are_let_through_unseen() -> None:
    require_memory(digits_mlp(), trainable_layers=9, available=2**40)


def test_a_search_and_a_training_are_refused_before_they_begin(tmp_path: Path) -> None:
    task, small = digits_mlp(), TrainingOptions(memory="1MiB")
    with pytest.raises(
        NotEnoughMemoryError, match=r"9 of 9 layers of digits-mlp needs .* and 1 MiB are available"
    ):
        tune_task(task, study="s", storage=MEMORY, training=replace(small, runs=tmp_path / "runs"))
    with pytest.raises(NotEnoughMemoryError, match=r"train at most \d layers here"):
        train_task(task, task.defaults, options=small)
    evaluation, _ = train_task(
        task, task.defaults, fidelity=Fidelity(trainable_layers=1, samples=64), options=small
    )
    assert evaluation.status is Status.FINISHED


def test_a_model_that_is_no_matter_of_shapes_is_let_through() -> None:
    class Peeking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(64, 10)
            self.scale = 1 / float(self.layer.weight.norm())

    task = dataclasses.replace(digits_mlp(), model=lambda _: Peeking())
    require_memory(task, trainable_layers=1, available=1)
