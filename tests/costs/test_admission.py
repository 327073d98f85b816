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
from frostline.run.options import TrainingOptions
from frostline.run.tuning import train_task, tune_task
from frostline.store.storage import MEMORY
from frostline.tasks.digits_resnet import digits_resnet


def test_a_training_that_does_not_fit_is_refused_with_what_does() -> None:
    task = digits_resnet()
    available = Capacity(task).required(4)
    require_memory(task, trainable_layers=4, available=available)
    with pytest.raises(NotEnoughMemoryError, match=r"training 10 of 10 layers .* train at most 4 layers here"):
        require_memory(task, trainable_layers=10, available=available)
    with pytest.raises(NotEnoughMemoryError, match=r"use a smaller batch"):
        require_memory(task, trainable_layers=1, available=1_000_000)


def test_small_models_are_let_through_unseen() -> None:
    require_memory(digits_resnet(), trainable_layers=10, available=2**40)


def test_a_search_and_a_training_are_refused_before_they_begin(tmp_path: Path) -> None:
    task, small = digits_resnet(), TrainingOptions(memory="10MiB")
    with pytest.raises(
        NotEnoughMemoryError, match=r"10 of 10 layers of digits-resnet needs .* and 10 MiB are available"
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

    task = dataclasses.replace(digits_resnet(), model=lambda _: Peeking())
    require_memory(task, trainable_layers=1, available=1)
