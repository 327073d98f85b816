"""Populations behind frozen weights that are rounded or streamed: the same numbers, and nothing read twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from frostline.layers.weights.widening import Widened
from frostline.populations.engines import Engine
from frostline.populations.population import Population
from frostline.populations.prefix.prefix_store import PrefixStore
from frostline.training.serial import train_serially
from tests.populations.cases import CASES, Case, configuration_of, jobs_of
from tests.training.cases import settings_of

OPTIONS = {
    "rounded": {"frozen_dtype": "bfloat16"},
    "streamed": {"frozen_placement": "stream"},
    "both": {"frozen_dtype": "bfloat16", "frozen_placement": "stream"},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_members_are_trained_as_they_are_alone(case: Case, options: dict[str, Any]) -> None:
    task = case.task(**options)
    layers = case.layers[0]
    jobs = jobs_of([configuration_of(number) for number in range(3)], layers=layers, samples=60)
    population = Population(task, jobs, settings_of(), engine=Engine.SHARED)
    together = sorted(population.run(), key=lambda each: each.number)
    for evaluation, job in zip(together, jobs, strict=True):
        alone = train_serially(task, job, settings_of())
        assert evaluation.cost.population == len(jobs)
        assert evaluation.score == pytest.approx(alone.score, rel=1e-9)


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often weights were brought from where they are kept, as it goes on."""
    seen = [0]
    bring: Callable[..., None] = Widened._bring

    def counted(self: Any, borrowed: Any) -> None:
        seen[0] += 1
        bring(self, borrowed)

    monkeypatch.setattr(Widened, "_bring", counted)
    return seen


def test_once_all_outputs_are_kept_no_frozen_weight_is_read(readings: list[int]) -> None:
    case = next(case for case in CASES if case.name == "mlp")
    task = case.task(**OPTIONS["both"])

    def read_in(epochs: int, *, kept: int) -> int:
        before = readings[0]
        jobs = jobs_of([configuration_of(number) for number in range(2)], layers=2, samples=20 * epochs)
        store = PrefixStore(training_bytes=kept, validation_bytes=2**20)
        list(Population(task, jobs, settings_of(), engine=Engine.SHARED, store=store).run())
        return readings[0] - before

    assert read_in(12, kept=2**20) == read_in(2, kept=2**20)
    assert read_in(12, kept=0) > read_in(2, kept=0)
