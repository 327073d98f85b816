from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from frostline.training.steps.finiteness import Readings


def test_the_earliest_reading_that_is_not_finite_is_named_when_it_is_time() -> None:
    readings = Readings(interval=4)
    for step, (loss, norm) in enumerate([(1.0, None), (2.0, math.inf), (math.nan, 1.0)]):
        readings.add(10 * step, torch.tensor(loss), None if norm is None else torch.tensor(norm))
        assert readings.complaint(at_once=False) is None
    readings.add(30, torch.tensor(-math.inf), None)
    assert readings.complaint(at_once=False) == "the gradient norm after 10 samples is inf"
    assert readings.complaint(at_once=True) is None


def test_all_is_read_at_once_when_asked() -> None:
    readings = Readings(interval=100)
    readings.add(5, torch.tensor(math.nan), torch.tensor(math.nan))
    assert readings.complaint(at_once=True) == "the training loss after 5 samples is nan"


def test_large_is_not_infinite() -> None:
    readings = Readings(interval=1)
    readings.add(0, torch.tensor(1e300, dtype=torch.float64), None)
    assert readings.complaint(at_once=False) is None


def test_many_are_read_in_one_go(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = Readings(interval=3)
    monkeypatch.setattr(Tensor, "__float__", lambda _: pytest.fail("each is read by itself"))
    for step in range(3):
        readings.add(step, torch.ones(1, dtype=torch.float64), torch.tensor(2.0) if step else None)
    assert readings.complaint(at_once=False) is None
