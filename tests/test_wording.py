"""Quantities in words."""

from __future__ import annotations

import pytest

from frostline.errors import AlignmentError, FidelityError
from frostline.records import Configuration, Fidelity, Job
from frostline.search.alignment import Alignment
from frostline.training.course import path_of
from frostline.wording import counted, duration


def test_one_thing_is_not_many() -> None:
    assert [counted(number, "layer") for number in (0, 1, 2, 12)] == [
        "0 layers",
        "1 layer",
        "2 layers",
        "12 layers",
    ]


def test_a_short_duration_is_not_nothing() -> None:
    shown = [duration(seconds) for seconds in (0, 0.0004, 0.0006, 0.03, 0.0994, 0.0996, 1.25, 99.4, 100, 6000)]
    assert shown == [
        "0.0 s",
        "0.0 s",
        "1 ms",
        "30 ms",
        "99 ms",
        "0.1 s",
        "1.2 s",
        "99 s",
        "1 min 40 s",
        "1 h 40 min",
    ]


def test_refusals_count_a_single_layer_as_one() -> None:
    with pytest.raises(AlignmentError, match="the factor of rate at 1 layer is -2"):
        Alignment(factors={1: {"rate": -2.0}})
    job = Job(
        configuration=Configuration(number=0, hyperparameters={}),
        rung=1,
        fidelity=Fidelity(trainable_layers=2, samples=9),
        continued_from=(Fidelity(trainable_layers=1, samples=3),),
    )
    with pytest.raises(FidelityError, match="a training of 1 layer on 3 samples cannot go on to 2 layers and 9"):
        path_of(job)
