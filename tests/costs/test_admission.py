"""What memory cannot hold is refused before anything runs."""

from __future__ import annotations

import pytest

from frostline.costs.admission import require_memory
from frostline.costs.prediction import predict_step
from frostline.errors import NotEnoughMemoryError
from frostline.tasks.digits_resnet import digits_resnet


def test_a_training_that_does_not_fit_is_refused_with_what_does() -> None:
    task = digits_resnet()
    available = predict_step(task, trainable_layers=4).memory.peak
    require_memory(task, trainable_layers=4, num_layers=10, available=available)
    with pytest.raises(NotEnoughMemoryError, match=r"training 10 of 10 layers .* train at most 4 layers here"):
        require_memory(task, trainable_layers=10, num_layers=10, available=available)
    with pytest.raises(NotEnoughMemoryError, match=r"use a smaller batch"):
        require_memory(task, trainable_layers=1, num_layers=10, available=1_000_000)


def test_small_models_are_let_through_unseen() -> None:
    require_memory(digits_resnet(), trainable_layers=10, num_layers=10, available=2**40)
