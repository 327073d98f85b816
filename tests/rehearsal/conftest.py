"""What every test on a card shares: no step of a training waits for it, but for the places that are known to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from frostline.layers.weights.widening import Lookup
from frostline.populations.prefix.prefix_cache import PrefixCache
from frostline.populations.prefix.prefix_store import PrefixStore
from frostline.populations.stacking.captured import CapturedStep
from frostline.populations.stacking.stacked import StackedStep
from frostline.training.session import Session
from tests.rehearsal.cases import is_rehearsed, no_waiting


@pytest.fixture(autouse=True)
def steps_never_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "step", _watched(Session.step))
    monkeypatch.setattr(StackedStep, "step", _watched(StackedStep.step))


def _watched(step: Callable[..., Any]) -> Callable[..., Any]:
    def watched(*args: Any, **kwargs: Any) -> Any:
        with no_waiting():
            return step(*args, **kwargs)

    return watched


@pytest.fixture(autouse=True)
def known_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the places wait that cannot help it: they are listed in docs/how-to/gpu.md."""
    for kind, name in (
        (PrefixCache, "insert"),
        (PrefixStore, "_first"),
        (Lookup, "_rows"),
        (CapturedStep, "_capture"),
        (CapturedStep, "_compared"),
    ):
        own = getattr(kind, name)

        def waiting(self: Any, *args: Any, own: Any = own) -> Any:
            before = torch.cuda.get_sync_debug_mode()
            torch.cuda.set_sync_debug_mode("default")
            try:
                return own(self, *args)
            finally:
                torch.cuda.set_sync_debug_mode(before)

        monkeypatch.setattr(kind, name, waiting)


@pytest.fixture(autouse=True)
def one_attention() -> Iterator[None]:
    """Fused attention rounds on either device in its own way; written out, it is the same."""
    with sdpa_kernel(SDPBackend.MATH):
        yield


@pytest.fixture(autouse=True)
def streams_keep_their_order() -> Iterator[None]:
    """Let no memory be given on while a stream may still use it: known on the card of host memory alone."""
    yield
    if torch.cuda.is_available() and is_rehearsed():
        from tests.rehearsal.card_streams import STREAMS

        faults, STREAMS.faults = STREAMS.faults, []
        assert not faults
