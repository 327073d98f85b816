"""What streams may do with each other's memory, on a card of host memory that keeps their clocks; and weights sent ahead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from frostline.layers import freeze
from frostline.layers.weights import prefetching
from frostline.layers.weights.prefetching import Ahead
from tests.populations.cases import tokens
from tests.rehearsal.cases import BY_NAME, CARD, ON_A_CARD, is_rehearsed

pytestmark = ON_A_CARD


def streams() -> Any:
    """The clocks of this process's card, where it is one of host memory."""
    if not is_rehearsed():
        pytest.skip("a card does not say what it would have got wrong")
    from tests.rehearsal.card_streams import STREAMS

    return STREAMS


def faults_of(use: Callable[[Tensor, Any], None]) -> list[str]:
    """What is found wrong where a tensor is made on another stream, used as ``use`` does, and let go of."""
    known, other = streams(), torch.cuda.Stream(CARD)
    with torch.cuda.stream(other):
        there = torch.ones(3, device=CARD)
    use(there, other)
    del there
    faults, known.faults = known.faults, []
    return faults


def test_what_another_stream_wrote_is_waited_for() -> None:
    streams()
    with pytest.raises(RuntimeError, match="used on a stream that has not waited for the one that wrote it"):
        faults_of(lambda there, _other: there.add_(1))

    def after_an_event(there: Tensor, other: Any) -> None:
        event = torch.cuda.Event()
        event.record(other)
        torch.cuda.current_stream().wait_event(event)
        there.record_stream(torch.cuda.current_stream())
        there.add_(1)

    assert not faults_of(after_an_event)


def test_memory_that_a_stream_uses_is_not_given_on() -> None:
    def without_a_record(there: Tensor, other: Any) -> None:
        torch.cuda.current_stream().wait_stream(other)
        there.add_(1)

    (fault,) = faults_of(without_a_record)
    assert fault == "memory is given on while another stream may still use it: record_stream"

    def and_back(there: Tensor, other: Any) -> None:
        without_a_record(there, other)
        other.wait_stream(torch.cuda.current_stream())

    assert not faults_of(and_back)


def test_streamed_weights_are_copied_ahead_on_one_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    model = BY_NAME["gpt"].model()
    freeze(model, trainable_layers=1, frozen_placement="stream")
    ids = tokens(0).tensors[0]
    expected = model(ids)
    taken: list[bool] = []
    used: list[Any] = []
    take, copied = Ahead.take, prefetching._copied_ahead

    def noted_take(self: Ahead, stored: Tensor, device: torch.device) -> Tensor | None:
        there = take(self, stored, device)
        taken.append(there is not None)
        return there

    def noted_copy(stored: Tensor, device: torch.device, stream: Any) -> Any:
        used.append(stream)
        return copied(stored, device, stream)

    monkeypatch.setattr(Ahead, "take", noted_take)
    monkeypatch.setattr(prefetching, "_copied_ahead", noted_copy)
    model.to(CARD)
    torch.testing.assert_close(model(ids.to(CARD)).cpu(), expected, rtol=1e-5, atol=1e-6)
    # The first module's own weights are nobody's next.
    assert taken.count(True) > taken.count(False) > 0
    assert len(used) == taken.count(True)
    assert all(stream is used[0] for stream in used)


@pytest.mark.parametrize("forgotten", ["wait_event", "record_stream"])
def test_a_copy_ahead_that_forgets_its_order_is_found(forgotten: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known = streams()
    place = type(torch.cuda.current_stream()) if forgotten == "wait_event" else Tensor
    monkeypatch.setattr(place, forgotten, lambda *_: None)
    model = BY_NAME["gpt"].model()
    freeze(model, trainable_layers=1, frozen_placement="stream")
    model.to(CARD)
    ids = tokens(0).tensors[0].to(CARD)
    if forgotten == "wait_event":
        with pytest.raises(RuntimeError, match="has not waited for the one that wrote it"):
            model(ids)
    else:
        model(ids)
        faults, known.faults = known.faults, []
        assert faults
