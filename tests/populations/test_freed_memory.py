"""Memory that is freed and kept goes back to the system when it is too much; what is held is soon taken for usual."""

from __future__ import annotations

import sys

import pytest

from frostline.populations import freed_memory
from frostline.populations.engines import Engine
from frostline.populations.freed_memory import FreedMemory
from frostline.populations.population import Population
from frostline.process import resident_bytes, trim_freed_memory
from tests.populations.cases import BATCH_SIZE, CASES, configuration_of, jobs_of
from tests.training.cases import settings_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc and glibc")

PIECE = 2**16  # of the heap: larger ones may be mapped, and go back by themselves


def resident() -> int:
    value = resident_bytes()
    assert value is not None
    return value


def pieces(share: float) -> list[bytes]:
    """As much as a share of what the process has, touched, in pieces of the heap."""
    return [bytes([1]) * PIECE for _ in range(int(share * resident() / PIECE))]


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> FreedMemory:
    monkeypatch.setattr(freed_memory, "_SECONDS_BETWEEN_LOOKS", 0)
    trim_freed_memory()  # pieces would lie where tests before this one left room
    watch = FreedMemory()
    assert not watch.look()
    return watch


def test_what_lies_idle_goes_back(watch: FreedMemory) -> None:
    before = resident()
    held = pieces(0.3)
    last = held[-1]  # at the end of the heap: what lies before it does not go back by itself
    del held
    assert resident() > 1.15 * before
    assert watch.look()
    assert resident() < 1.1 * before
    assert not watch.look()
    assert len(last) == PIECE


def test_what_is_held_is_soon_usual(watch: FreedMemory) -> None:
    held = []
    num_given_back = 0
    for _ in range(20):
        held.append(pieces(0.03))
        num_given_back += watch.look()
        assert not watch.look()
    # It grew to 1.8 times as much, each time by a tenth or more.
    assert 1 <= num_given_back <= 6


def test_looks_are_not_made_at_every_step_of_a_small_model(
    watch: FreedMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freed_memory, "_SECONDS_BETWEEN_LOOKS", 1000)
    held = pieces(0.3)
    assert not watch.look()
    monkeypatch.undo()
    watch._looked = 0.0
    assert watch.look()
    assert held


def test_a_population_looks_after_every_members_step_when_its_gradients_are_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = next(case for case in CASES if case.name == "gpt")
    jobs = jobs_of([configuration_of(number) for number in range(3)], layers=1, samples=2 * BATCH_SIZE)
    population = Population(case.task(), jobs, settings_of(num_validations=1), engine=Engine.SHARED)
    trained = [parameter for course in population._living for parameter in course.session.parameters]
    looks = []
    look = FreedMemory.look

    def watched(freed: FreedMemory) -> bool:
        looks.append(sum(parameter.grad is not None for parameter in trained))
        return look(freed)

    monkeypatch.setattr(FreedMemory, "look", watched)
    assert len(list(population.run())) == 3
    assert looks == [0] * 6
