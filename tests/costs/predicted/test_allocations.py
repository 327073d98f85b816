"""Living bytes rise and fall with tensors, and their peak is the allocator's."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from frostline.costs.predicted.allocations import LiveBytes
from frostline.costs.predicted.true_peak import PeakBytes
from frostline.errors import OptionError

CPU = torch.device("cpu")
REAL_OR_FAKE = pytest.mark.parametrize("mode", [nullcontext, FakeTensorMode], ids=["real", "fake"])


@REAL_OR_FAKE
def test_bytes_come_and_go_with_their_tensors(mode: Callable[[], object]) -> None:
    with mode(), LiveBytes() as live:
        first = torch.ones(1000)
        view = first[10:].view(-1, 2)
        assert live.current == 4000
        second = first + 1
        assert live.current == 8000
        del first
        assert live.current == 8000  # the view keeps it
        del view, second
        assert live.current == 0
    assert live.peak == 8000


@REAL_OR_FAKE
def test_what_was_there_counts_only_if_it_is_watched(mode: Callable[[], object]) -> None:
    with mode():
        known, unknown, ignored = torch.ones(100), torch.ones(1000), torch.ones(10_000)
        with LiveBytes(ignored=[ignored]) as live:
            live.watch([known, known[:50], ignored])
            assert live.current == 400
            unknown.add_(1)
            assert unknown.view(-1).sum().dim() == 0
            assert ignored[:10].dim() == 1
            assert live.current == 400
            del known
            assert live.current == 0


class Chunked:
    """The chunked loss of a head on hidden states of some type."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.hidden = torch.randn(512, 64, dtype=dtype, requires_grad=True)
        self.weight = torch.randn(4096, 64, dtype=dtype, requires_grad=True)
        self.targets = torch.zeros(512, dtype=torch.long)

    def __call__(self) -> Tensor:
        options = torch.nn.LinearCrossEntropyOptions()
        return functional.linear_cross_entropy(self.hidden, self.weight, self.targets, options=options)

    def zero_grad(self) -> None:
        self.hidden.grad = self.weight.grad = None


class Attention:
    def __init__(self, length: int) -> None:
        self.parts = [torch.randn(2, 4, length, 32, requires_grad=True) for _ in range(3)]

    def __call__(self) -> Tensor:
        return functional.scaled_dot_product_attention(*self.parts, is_causal=True).square().mean()

    def zero_grad(self) -> None:
        for part in self.parts:
            part.grad = None


class Convolution:
    def __init__(
        self, channels: int, width: int, size: int, *, kind: type[nn.Module] = nn.Conv2d, stride: int = 1
    ) -> None:
        self.layer = kind(channels, width, 3, stride, padding=1, bias=False)
        self.images = torch.randn(8, channels, size, size, requires_grad=True)

    def __call__(self) -> Tensor:
        return self.layer(self.images).square().mean()

    def zero_grad(self) -> None:
        self.layer.weight.grad = self.images.grad = None


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.LayerNorm(256), nn.Linear(256, 500))


class Network:
    def __init__(self) -> None:
        self.layers = network()
        self.inputs = torch.randn(128, 64)
        self.targets = torch.zeros(128, dtype=torch.long)

    def __call__(self) -> Tensor:
        return functional.cross_entropy(self.layers(self.inputs), self.targets)

    def zero_grad(self) -> None:
        self.layers.zero_grad()


CASES = {
    "network": (Network, 0.01),
    "attention-128": (lambda: Attention(128), 0.01),
    "attention-512": (lambda: Attention(512), 0.01),
    "attention-1024": (lambda: Attention(1024), 0.01),
    "convolution-64": (lambda: Convolution(64, 64, 28), 0.03),
    "convolution-512": (lambda: Convolution(512, 512, 7), 0.03),
    "convolution-strided": (lambda: Convolution(32, 64, 28, stride=2), 0.03),
    "convolution-transposed": (lambda: Convolution(64, 32, 14, kind=nn.ConvTranspose2d, stride=2), 0.03),
    "convolution-to-colours": (lambda: Convolution(64, 3, 28), 0.03),
    "chunked": (lambda: Chunked(torch.float32), 0.01),
    "chunked-bfloat16": (lambda: Chunked(torch.bfloat16), 0.03),
}


@pytest.mark.parametrize("name", CASES)
@REAL_OR_FAKE
def test_the_peak_is_the_allocators_own(name: str, mode: Callable[[], object]) -> None:
    if name.startswith("chunked") and not hasattr(functional, "linear_cross_entropy"):
        pytest.skip("torch has no chunked loss before 2.13")
    build, tolerance = CASES[name]
    real = build()
    real().backward()
    real.zero_grad()
    with PeakBytes(CPU) as peak:
        real().backward()
    with mode():
        step = build()
        with LiveBytes() as live:
            step().backward()
    assert live.peak == pytest.approx(peak.bytes, rel=tolerance)


def attention(length: int, width: int, *, asks: bool) -> Callable[[], object]:
    layer, inputs = nn.MultiheadAttention(width, 4, batch_first=True).eval(), torch.randn(8, length, width)
    return lambda: layer(inputs, inputs, inputs, need_weights=asks)


def encoder_layer(length: int, width: int, *, norm_first: bool) -> Callable[[], object]:
    inner = 60_000 // length
    layer = nn.TransformerEncoderLayer(width, 4, inner, batch_first=True, norm_first=norm_first).eval()
    inputs = torch.randn(8, length, width)
    return lambda: layer(inputs)


@pytest.mark.parametrize(
    "build",
    [
        partial(attention, asks=True),
        partial(attention, asks=False),
        partial(encoder_layer, norm_first=True),
        partial(encoder_layer, norm_first=False),
    ],
    ids=["weights", "no weights", "norm first", "norm last"],
)
@pytest.mark.parametrize(("length", "width"), [(20, 64), (128, 32)])
@REAL_OR_FAKE
def test_what_torch_fuses_where_nothing_is_trained_takes_what_it_does(
    mode: Callable[[], object], length: int, width: int, build: Callable[[int, int], Callable[[], object]]
) -> None:
    with torch.no_grad():
        real = build(length, width)
        with PeakBytes(CPU) as peak:
            real()
        with mode():
            step = build(length, width)
            with LiveBytes() as live:
                step()
    assert live.peak == pytest.approx(peak.bytes, rel=0.01)


def test_the_true_peak_is_that_of_the_allocator_and_not_what_is_left() -> None:
    with PeakBytes(CPU) as peak:
        large = torch.ones(1_000_000)
        del large
        small = torch.ones(1000)
    assert len(small) == 1000
    assert peak.bytes == 4_000_000
    assert peak.before is None


def test_the_true_peak_sees_what_a_kernel_takes_inside_itself() -> None:
    layer, images = nn.Conv2d(64, 64, 3, padding=1), torch.randn(8, 64, 28, 28)
    with torch.no_grad(), PeakBytes(CPU) as peak:
        outputs = layer(images)
    assert peak.bytes > outputs.nbytes


def test_reading_the_true_peak_writes_nothing_to_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with PeakBytes(CPU):
        torch.ones(1000)
    assert capfd.readouterr() == ("", "")


def test_two_readers_of_the_true_peak_at_once_are_refused() -> None:
    with PeakBytes(CPU), pytest.raises(OptionError, match="one is open: close it first"), PeakBytes(CPU):
        pass


def test_a_device_without_a_peak_is_refused() -> None:
    with pytest.raises(OptionError, match="device is 'meta', whose peak of memory torch cannot read"):
        PeakBytes(torch.device("meta"))


def test_ignored_tensors_count_while_they_are_converted_one_after_another() -> None:
    stored = [torch.zeros(1000, dtype=torch.bfloat16) for _ in range(3)]
    with LiveBytes(ignored=stored) as live:
        whole = [each.float() for each in stored]
        assert (live.current, live.peak) == (3 * 4000, 3 * 4000 + 3 * 2000)
        larger = torch.zeros(5000)
        assert (live.current, live.peak) == (3 * 4000 + 20_000, 3 * 4000 + 20_000)
        del larger
        whole[0] = stored[0].float()
    # Those of before were let go of when something was computed.
    assert live.peak == 3 * 4000 + 20_000
