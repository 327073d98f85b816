"""Global generators: seeded for what a training draws, and given back as they were."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from frostline.training.machine.randomness import (
    borrowed_generators,
    generator_states,
    seed_generators,
    seeded,
    seeded_for_data,
)

CPU = torch.device("cpu")


def drawn() -> tuple[float, float, float]:
    return torch.rand(()).item(), np.random.rand(), random.random()  # noqa: NPY002


def test_all_that_a_model_draws_depends_on_the_seed() -> None:
    with borrowed_generators(CPU):
        seed_generators(2**63 - 1, CPU)
        first = drawn()
        seed_generators(2**63 - 1, CPU)
        assert drawn() == first
        seed_generators(1, CPU)
        assert not {*drawn()} & {*first}


def test_generators_are_given_back_as_they_were() -> None:
    contexts: list[Any] = [lambda: borrowed_generators(CPU), lambda: seeded_for_data(3), lambda: seeded(3)]
    for context in contexts:
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002
        random.seed(0)
        expected = drawn()
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002
        random.seed(0)
        with context():
            seed_generators(5, CPU)
            drawn()
        assert drawn() == expected


def test_states_tell_whether_anything_was_drawn() -> None:
    with borrowed_generators(CPU):
        for draw in (lambda: torch.rand(()), lambda: np.random.rand(), random.random):  # noqa: NPY002
            before = generator_states(CPU)
            assert all(map(torch.equal, before, generator_states(CPU)))
            draw()
            assert not all(map(torch.equal, before, generator_states(CPU)))
