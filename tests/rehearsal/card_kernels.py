"""The card's kernels: the CPU's, on the very memory; what a card refuses or waits for is refused and counted here."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from tests.rehearsal.card_facts import Facts, argument_at, leaves_of, mapped
from tests.rehearsal.card_graphs import GRAPHS
from tests.rehearsal.card_state import GENERATORS, PINNED, WAITS
from tests.rehearsal.card_streams import STREAMS
from tests.rehearsal.host_card import CARD, is_on_card, on_card, on_host

_aten = torch.ops.aten

# What makes the host wait until the card is done, as torch.cuda.set_sync_debug_mode knows it.
_WAITING = frozenset(
    ["_local_scalar_dense", "equal", "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive"]
) | {"bincount", "repeat_interleave"}
_INDEXING = frozenset({"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"})
_TAKES_ANY_DEVICE = _INDEXING | {"_to_copy", "_copy_from", "set_"}


def register() -> list[torch.library.Library]:
    """Register all kernels of the card, for as long as what is returned lives."""
    everything = torch.library.Library("_", "IMPL")
    everything.fallback(run, "CUDA")
    own = torch.library.Library("aten", "IMPL")
    # Left to torch, convolutions would be taken apart as for a card without cuDNN.
    for name in ("convolution", "convolution_backward"):
        own.impl(name, functools.partial(run, getattr(_aten, name).default), "CUDA")
    # What ``torch.tensor`` makes on the card below a mode that counts operations: torch looks for no fallback there.
    for operation in (_aten.empty.memory_format, _aten.empty_strided.default):
        own.impl(operation.name(), functools.partial(run, operation), "CUDA")
    own.impl("copy_", _copy, "CUDA")
    own.impl("as_strided", _as_strided, "CUDA")
    own.impl("resize_", _resize, "CUDA")
    return [everything, own]


def run(operation: Any, *args: Any, **kwargs: Any) -> Any:
    """Run an operation on the card, and note it if it is being captured."""
    facts = Facts.of(operation)
    given = GRAPHS.before(facts, args, kwargs) if WAITS.is_capturing else (args, kwargs)
    with torch._C.DisableTorchFunction(), torch._C._AutoDispatchBelowAutograd(), torch.no_grad():
        result = _computed(operation, facts, *given)
        if len(facts.returns) == 1:
            returned = _returned(facts, facts.returns[0], result, args, kwargs)
        else:
            results = zip(facts.returns, result or (), strict=True)
            returned = tuple(_returned(facts, each, value, args, kwargs) for each, value in results) or None
    if WAITS.is_capturing:
        GRAPHS.add(functools.partial(_computed, operation, facts, *given), facts, returned)
    return returned


def _computed(operation: Any, facts: Facts, args: Any, kwargs: Any) -> Any:
    """Run an operation on the host's view of its arguments, write what it writes, and return what it returns there."""
    tensors: list[Tensor] = []
    host_args = mapped(lambda value: _host(value, tensors), args)
    host_kwargs = {key: mapped(lambda value: _host(value, tensors), each) for key, each in kwargs.items()}
    _refuse(facts, tensors)
    if facts.is_seeded:
        host_args, host_kwargs = _with_generator(facts, host_args, host_kwargs)
    for name in facts.outputs:
        host_kwargs[name] = torch.empty(0, dtype=kwargs[name].dtype)
    written = [argument_at(facts, index, args, kwargs) for index in facts.written]
    STREAMS.ran(filter(is_on_card, tensors), filter(is_on_card, leaves_of(written)))
    result = operation(*host_args, **host_kwargs)
    for index in facts.written:
        _write(argument_at(facts, index, args, kwargs), argument_at(facts, index, host_args, host_kwargs))
    return result


def _host(value: Any, seen: list[Tensor]) -> Any:
    """Return what stands on the CPU for an argument; tensors are added to those ``seen``."""
    if isinstance(value, Tensor):
        seen.append(value)
        return on_host(value) if is_on_card(value) else value
    if isinstance(value, torch.device) and value.type == "cuda":
        return torch.device("cpu")
    return value


def _refuse(facts: Facts, tensors: list[Tensor]) -> None:
    """Raise RuntimeError, as on a card, where tensors of both devices meet, or the host must wait and may not."""
    if facts.name in _INDEXING:
        # A mask's elements are counted first, and what lies on the CPU is copied.
        if any(each.dtype in (torch.bool, torch.uint8) or not is_on_card(each) for each in tensors[1:]):
            WAITS.add(facts.name)
        return
    if facts.name in _WAITING:
        WAITS.add(facts.name)
    # A number in a CPU tensor counts as a number.
    strange = [each for each in tensors if each.dim() > 0 and not is_on_card(each)]
    if strange and facts.name not in _TAKES_ANY_DEVICE and len(strange) < len(tensors):
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices, {CARD} and "
            f"{strange[0].device}! (in {facts.name})"
        )


def _with_generator(facts: Facts, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return the arguments with a generator of the card's.

    Raises: RuntimeError, as on a card, if one is given that is not.
    """
    given = [value for value in (*args, *kwargs.values()) if isinstance(value, torch._C.Generator)]
    if given and given[0] not in GENERATORS:
        raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
    if given or "generator" not in facts.arguments:
        return args, kwargs
    index = facts.arguments.index("generator")
    if index < len(args):
        return (*args[:index], GENERATORS.default, *args[index + 1 :]), kwargs
    return args, {**kwargs, "generator": GENERATORS.default}


def _write(original: Any, host: Any) -> None:
    """Let tensors on the card be what a kernel made in the places that stood for them."""
    if isinstance(original, list | tuple):
        for each, place in zip(original, host, strict=True):
            _write(each, place)
    elif is_on_card(original) and (original.data_ptr(), original.shape) != (host.data_ptr(), host.shape):
        if original.shape == host.shape:
            on_host(original).copy_(host)
        else:
            original.data = on_card(host)


def _returned(facts: Facts, described: tuple[str, bool] | None, value: Any, args: Any, kwargs: Any) -> Any:
    """Return a kernel's result on the card: what was written into, a part of what was given, or a new tensor."""
    if described is None:
        return mapped(lambda each: on_card(each) if isinstance(each, Tensor) else each, value)
    label, is_itself = described
    original = argument_at(facts, facts.labelled[label], args, kwargs)
    return original if is_itself else mapped(functools.partial(_part, original), value)


def _part(original: Tensor, part: Tensor) -> Tensor:
    moved = part.data_ptr() - original.data_ptr() if part.numel() else 0
    return _as_strided(
        original, part.shape, part.stride(), original.storage_offset() + moved // part.element_size()
    )


def _as_strided(tensor: Tensor, size: Any, stride: Any, storage_offset: int | None = None) -> Tensor:
    offset = tensor.storage_offset() if storage_offset is None else storage_offset
    # The operation in place needs no kernel of the device.
    view: Tensor = _aten.alias.default(tensor).as_strided_(size, stride, offset)
    return view


def _resize(tensor: Tensor, size: Any, *, memory_format: Any = None) -> Tensor:
    assert not WAITS.is_capturing or not tensor.numel() or tuple(tensor.shape) == tuple(size), (
        "resized in a capture"
    )
    if tuple(tensor.shape) != tuple(size):
        new = torch.empty(size, dtype=tensor.dtype, memory_format=memory_format or torch.contiguous_format)
        # As a loss that torch makes for every element first, and then sums in its place.
        fits = 0 < new.numel() <= tensor.numel() and tensor.is_contiguous()
        assert fits or not tensor.numel(), "a tensor on the card that holds something grows: not rehearsed"
        tensor.data = _as_strided(tensor, new.shape, new.stride()) if fits else on_card(new)
    return tensor


def _copy(target: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    if target.device != source.device and target.numel() and not (non_blocking and is_on_card(target)):
        # Into memory that is not pinned the host waits for the card, whatever it was asked.
        WAITS.add("copy_")

    if is_on_card(target) and not is_on_card(source) and source.numel() and not PINNED.has(source):
        WAITS.seen["copy_ from pageable memory"] += 1

    def copy() -> None:
        STREAMS.ran(filter(is_on_card, (target, source)), filter(is_on_card, (target,)))
        with torch._C.DisableTorchFunction(), torch._C._AutoDispatchBelowAutograd(), torch.no_grad():
            _host(target, []).copy_(_host(source, []))

    if WAITS.is_capturing:
        if target.device != source.device:
            raise RuntimeError("Cannot copy between CPU and CUDA tensors during CUDA graph capture")
        GRAPHS.keep(target)
        GRAPHS.note(copy)
    copy()
    return target
