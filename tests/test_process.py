"""What a process is told of its machine, and signals that come at a bad moment: they wait, and a second one is heard."""

from __future__ import annotations

import gc
import os
import signal
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from frostline import process

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("max 100000", CORES), ("100000 100000", 1), ("10000 100000", 1), ("99900000 100000", CORES), (None, CORES)],
)
def test_cores_are_those_that_it_may_use(
    quota: str | None, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "cpu.max"
    if quota is not None:
        file.write_text(f"{quota}\n")
    monkeypatch.setattr(process, "_QUOTA", file)
    assert process.num_cores() == cores


class Ring:
    """Garbage that only a collection finds."""

    def __init__(self) -> None:
        self.itself = self


@pytest.mark.usefixtures("nothing_frozen")
def test_collections_pass_over_what_was_there_until_the_end_and_free_what_was_garbage_before() -> None:
    held, garbage = Ring(), weakref.ref(Ring())
    old = weakref.ref(held)
    with process.old_objects_passed_over():
        assert garbage() is None
        new = weakref.ref(Ring())
        del held
        gc.collect()
        assert (old() is None, new() is None) == (False, True)
        with process.old_objects_passed_over():
            pass
        gc.collect()
        assert old() is not None, "the inner one ended what it had not begun"
    gc.collect()
    assert old() is None


class ToldToEndError(Exception):
    """What a handler of this test's own raises."""


@pytest.fixture
def handlers() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    to_end = signal.getsignal(signal.SIGTERM)
    yield
    assert signal.signal(signal.SIGINT, before) is signal.default_int_handler
    signal.signal(signal.SIGTERM, to_end)


def end(_number: int, _frame: object) -> None:
    raise ToldToEndError


@pytest.fixture
def done() -> list[str]:
    return []


@process.uninterrupted()
def told_meanwhile(done: list[str], *, number: signal.Signals = signal.SIGINT, times: int = 1) -> None:
    for _ in range(times):
        signal.raise_signal(number)
    done.append("after the signal")


@pytest.mark.usefixtures("handlers")
def test_a_signal_waits_for_the_end_and_the_handler_is_back(done: list[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        told_meanwhile(done)
    assert done == ["after the signal"]
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.usefixtures("handlers")
def test_within_another_it_waits_for_the_outer_end(done: list[str]) -> None:
    @process.uninterrupted()
    def outer() -> None:
        told_meanwhile(done)
        done.append("within the outer one")

    with pytest.raises(KeyboardInterrupt):
        outer()
    assert done == ["after the signal", "within the outer one"]


@pytest.mark.usefixtures("handlers")
def test_a_second_signal_is_heard_at_once(done: list[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        told_meanwhile(done, times=2)
    assert done == []


@pytest.mark.usefixtures("handlers")
def test_each_signal_has_its_own_handler(done: list[str]) -> None:
    signal.signal(signal.SIGTERM, end)
    with pytest.raises(ToldToEndError):
        told_meanwhile(done, number=signal.SIGTERM)
    assert done == ["after the signal"]


@pytest.mark.usefixtures("handlers")
def test_an_error_within_goes_along_with_what_was_told() -> None:
    @process.uninterrupted()
    def failing() -> None:
        signal.raise_signal(signal.SIGINT)
        raise ValueError("the storage failed")

    with pytest.raises(KeyboardInterrupt) as caught:
        failing()
    assert isinstance(caught.value.__context__, ValueError)


@pytest.mark.usefixtures("handlers")
def test_a_thread_leaves_the_handlers_alone() -> None:
    seen = []

    def look() -> None:
        with process.uninterrupted():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]
