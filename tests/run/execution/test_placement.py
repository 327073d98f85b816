"""Who trains what next: nothing is lost, nobody idle while something it holds is waiting, the large kept for the large."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frostline.errors import OptionError
from frostline.records import Configuration, Cost, Evaluation, Fidelity, Job, Status
from frostline.run.execution.placement import Placement, cut, even_part
from frostline.run.execution.simulated import SimulatedDevices
from tests.executing import evaluations_by


def placement_of(**devices: int) -> Placement[str, str]:
    placement: Placement[str, str] = Placement()
    for name, memory in devices.items():
        placement.add(name, memory)
        placement.release(name)
    return placement


def begun(placement: Placement[str, str]) -> list[tuple[str, str]]:
    """Everything that begins now, in order, one item on each device."""
    pairs = []
    while (choice := placement.choose()) is not None:
        placement.begin(choice.device, choice.items[:1])
        pairs.append((choice.device, choice.items[0]))
    return pairs


def test_small_things_go_to_small_devices_and_large_ones_to_large() -> None:
    placement = placement_of(small=8, large=80, medium=24)
    for name, needed in {"rung 0": 4, "full": 60, "rung 0 too": 4, "rung 1": 20}.items():
        placement.wait(name, needed)
    assert begun(placement) == [("small", "rung 0"), ("medium", "rung 1"), ("large", "full")]
    assert placement.num_waiting == 1
    placement.release("large")
    assert begun(placement) == [("large", "rung 0 too")], (
        "a large device with nothing else to do takes what is small"
    )


def test_what_fits_nowhere_is_told_apart_from_what_waits_for_a_busy_device() -> None:
    placement = placement_of(small=8, large=80)
    for name, needed in {"full": 60, "full too": 60, "too large": 81}.items():
        placement.wait(name, needed)
    assert begun(placement) == [("large", "full")]
    assert [*placement.unplaceable()] == ["too large"]
    placement.remove("large")
    assert {*placement.unplaceable()} == {"too large", "full too"}
    assert (placement.num_free, placement.largest_bytes, placement.num_holding(8)) == (1, 8, 1)


def test_a_device_is_offered_what_needs_most_first_and_the_rest_besides() -> None:
    placement: Placement[str, int] = Placement(most_items=4)
    placement.add("device", 10)
    placement.release("device")
    for number in range(6):
        placement.wait(number, 3 if number % 2 else 7)
    choice = placement.choose()
    assert choice is not None
    assert (choice.device, choice.memory_bytes, [*choice.items], choice.num_alike) == (
        "device",
        10,
        [0, 2, 4, 1],
        3,
    )


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=8),
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 20)), max_size=30),
)
def test_nothing_is_lost_and_nobody_is_idle_beside_work_that_it_holds(
    devices: list[int], works: list[tuple[int, int]]
) -> None:
    jobs = [job_of(number) for number, (needed, _) in enumerate(works) if needed <= max(devices)]

    def evaluate(job: Job) -> Evaluation:
        return evaluation_of(job, seconds=works[job.configuration.number][1])

    executor = SimulatedDevices(
        evaluate, devices=devices, needed_bytes=lambda job: works[job.configuration.number][0]
    )
    placement = executor.placement
    ended = []
    for evaluation in evaluations_by(executor, jobs) if jobs else ():
        ended.append(evaluation.number)
        free, waiting = [*placement._free._size_of.values()], [*placement._waiting._size_of.values()]
        assert not free or not waiting or max(free) < min(waiting)
    assert sorted(ended) == sorted(job.configuration.number for job in jobs)
    assert executor.busy_seconds == sum(works[number][1] for number in ended)
    assert executor.room() == len(devices)


def test_without_devices_nothing_is_simulated() -> None:
    with pytest.raises(OptionError, match="there are no devices"):
        SimulatedDevices(lambda job: evaluation_of(job, seconds=1), devices=[], needed_bytes=lambda _: 1)


@given(st.integers(0, 200), st.integers(0, 9), st.lists(st.integers(0, 60), max_size=4), st.integers(0, 5))
def test_a_node_is_never_promised_twice(memory: int, slots: int, needs: list[int], overhead: int) -> None:
    shares = cut(memory, slots, needs, overhead_bytes=overhead)
    assert len(shares) <= slots
    assert sum(shares) + overhead * len(shares) <= memory
    assert shares == sorted(shares, reverse=True)
    assert all(share >= min(needs, default=0) for share in shares)
    if slots and needs and memory >= max(needs) + overhead:
        assert max(shares) >= max(needs), "what holds the largest rung is cut so that it does"


@pytest.mark.parametrize(
    ("memory", "slots", "needs", "shares"),
    [
        # All hold everything: equal parts.
        (160, 4, [2, 10, 30], [38] * 4),
        # One for each rung that not all can hold, and what is left for the lowest.
        (64, 16, [2, 10, 38], [38, 10, *[2] * 3]),
        # The full training fits nowhere on it.
        (20, 2, [2, 6, 38], [8, 8]),
        (3, 2, [2, 6, 38], []),
        # Nobody knows what is needed.
        (100, 3, [], [31, 31, 31]),
        (100, 0, [2], []),
    ],
)
def test_a_node_is_cut_so_that_its_rungs_fit(memory: int, slots: int, needs: list[int], shares: list[int]) -> None:
    assert cut(memory, slots, needs, overhead_bytes=2) == shares


def test_each_takes_its_part_and_no_more_than_it_trains_together() -> None:
    assert even_part(20, 4, most=lambda: 64) == 5
    assert even_part(21, 4, most=lambda: 3) == 3
    assert even_part(3, 4, most=lambda: pytest.fail("one alone is not asked for")) == 1
    assert even_part(2, 0, most=lambda: 0) == 1


def job_of(number: int) -> Job:
    configuration = Configuration(number=number, hyperparameters={})
    return Job(configuration=configuration, rung=0, fidelity=Fidelity(trainable_layers=1, samples=1))


def evaluation_of(job: Job, *, seconds: float) -> Evaluation:
    return Evaluation(
        number=job.configuration.number,
        rung=job.rung,
        fidelity=job.fidelity,
        status=Status.FINISHED,
        score=0.0,
        cost=Cost(seconds=seconds, samples=1),
    )
