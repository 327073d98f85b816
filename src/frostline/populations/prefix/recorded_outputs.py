"""A frozen model run from the middle: its frozen layers hand back outputs that were recorded, and only the rest computes.

The model's own forward runs as ever, with the code between its modules; but the outermost frozen modules are given a
``forward`` that can hand back what an earlier pass, of this model or of another one with the same frozen layers, got out
of them. Outputs that nothing behind the frozen layers reads are replaced by stand-ins of the same shape, full of NaN.
Nothing is assumed about the code around the layers, so what is handed back has to be proven on real batches; and a batch
that leads through other frozen modules than those with which it was proven has nothing handed back.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from frostline.layers.cutting.boundary import PrefixReached
from frostline.layers.cutting.nesting import leaves, map_tensors, tensors
from frostline.layers.freezing.freezing import Freezing
from frostline.populations.prefix.cannot_share import CannotShareError
from frostline.populations.prefix.compiled_forward import CompiledForward

_ANOTHER_PATH = (
    "some batches lead through other frozen layers than others, and those of this one were put together from what examples "
    "gave in others"
)

Call = tuple[str, int]
"""The name of an outermost frozen module, and which of its calls in one forward pass."""

Path = frozenset[Call]
"""The calls of frozen modules in one forward pass, up to the first trained module."""


@dataclass(frozen=True, slots=True)
class Needs:
    """Which outputs of the frozen modules the rest of a forward pass reads, and which of these it writes into."""

    seen: frozenset[Call] = frozenset()
    """Those of which that is known. What another batch or mode leads to beside them is handed over."""
    needed: frozenset[Call] = frozenset()
    changed: frozenset[Call] = frozenset()

    def __or__(self, other: Needs) -> Needs:
        return Needs(self.seen | other.seen, self.needed | other.needed, self.changed | other.changed)

    def reads(self, call: Call) -> bool:
        """Return whether the output of a call has to be handed over."""
        return call in self.needed or call not in self.seen


class StandIns:
    """Tensors that nobody reads, one for each shape: they need be neither computed nor kept."""

    def __init__(self) -> None:
        self._made: dict[tuple[torch.Size, torch.dtype, torch.device], Tensor] = {}

    def like(self, tensor: Tensor) -> Tensor:
        """Return one of the shape, type and device of ``tensor``."""
        return self.of(tensor.shape, tensor.dtype, tensor.device)

    def of(self, shape: torch.Size, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Return one of this shape, type and device."""
        key = (shape, dtype, device)
        if key not in self._made:
            self._made[key] = torch.full(shape, float("nan"), dtype=dtype, device=device)
        return self._made[key]


@dataclass(frozen=True, slots=True)
class Recording:
    """What the frozen modules gave in one forward pass, in the order in which they ran."""

    outputs: dict[Call, Any]
    versions: dict[Call, tuple[int, ...]]
    """How often each output that is no stand-in had been written into when it was recorded."""

    @property
    def path(self) -> Path:
        """The calls that gave it."""
        return frozenset(self.outputs)

    def reduced(self, needed: Container[Call], stand_ins: StandIns) -> Recording:
        """Return the recording with stand-ins for all outputs but those ``needed``."""
        kept = {
            call: output if call in needed else map_tensors(stand_ins.like, output)
            for call, output in self.outputs.items()
        }
        return Recording(kept, {call: version for call, version in self.versions.items() if call in needed})

    def changed(self) -> frozenset[Call]:
        """Return the calls whose outputs were written into since they were recorded."""
        return frozenset(
            call for call, versions in self.versions.items() if _versions(self.outputs[call]) != versions
        )

    def can_stand_in(self, call: Call) -> bool:
        """Return whether an output could be replaced by a stand-in: whole numbers may be indices, which NaN is not."""
        return all(isinstance(leaf, Tensor) and leaf.is_floating_point() for leaf in leaves(self.outputs[call]))

    def kept(self) -> list[Tensor]:
        """Return the tensors that are no stand-ins, in order."""
        return [tensor for call in self.versions for tensor in tensors(self.outputs[call])]

    def pattern(self) -> Recording:
        """Return a recording of this shape for ``with_kept``, without memory."""

        def shape_of(tensor: Tensor) -> Tensor:
            return torch.empty_like(tensor, device="meta")

        return Recording(
            {call: map_tensors(shape_of, output) for call, output in self.outputs.items()}, self.versions
        )

    def with_kept(self, kept: Sequence[Tensor], stand_ins: StandIns) -> Recording:
        """Return the recording of another batch, of which ``kept`` is what its own ``kept`` would return.

        Shapes: the first dimension of every tensor in ``kept`` is the number of the batch's examples.
        """
        left = iter(kept)
        before, now, device = len(self.kept()[0]), len(kept[0]), kept[0].device

        def stand_in(tensor: Tensor) -> Tensor:
            is_row_by_row = tensor.dim() > 0 and len(tensor) == before
            shape = torch.Size((now, *tensor.shape[1:])) if is_row_by_row else tensor.shape
            return stand_ins.of(shape, tensor.dtype, device)

        outputs = {
            call: map_tensors(lambda _: next(left), output)
            if call in self.versions
            else map_tensors(stand_in, output)
            for call, output in self.outputs.items()
        }
        return Recording(outputs, {call: _versions(outputs[call]) for call in self.versions})


class Replay:
    """Gives the outermost frozen modules of one model a ``forward`` that computes, records, or hands back.

    Until a recording is loaded they compute. ``needs`` says which outputs to record; until it is known, all of them. Of
    outputs that the code around the modules writes into, copies are recorded and handed back. ``paths`` are those on
    which that was proven, by the model's mode, training or not; on others nothing is recorded. Until they are known, all
    are.
    """

    def __init__(self, freezing: Freezing, stand_ins: StandIns) -> None:
        self.needs: Needs | None = None
        self.paths: Mapping[bool, Container[Path]] | None = None
        self._freezing = freezing
        self._stand_ins = stand_ins
        self._loaded: Mapping[Call, Any] = {}
        self._recording: Recording | None = None
        self._num_calls: dict[str, int] = {}
        self._num_left = 0
        self._is_in_suffix = False
        self._is_inside = False
        self._forwards: dict[int, _Forward] = {}
        for layer in freezing.frozen_layers:
            for name in layer.modules:
                module = freezing.model.get_submodule(name)
                if id(module) not in self._forwards:
                    self._forwards[id(module)] = _Forward(self, name, module)
        self.names = frozenset(forward.name for forward in self._forwards.values())
        """The names of the frozen modules."""
        freezing.call_at_suffix(self._enter_suffix)

    def load(self, recording: Recording | None) -> None:
        """Hand ``recording`` back in the next forward pass of the model; None, or one of nothing: compute from now on.

        Behind the first trained module what is called more often than it was recorded computes its outputs itself. A pass
        that calls others before raises CannotShareError, before it has read anything of theirs.
        """
        self._loaded = {} if recording is None else recording.outputs
        self._num_left = sum(name in self.names for name, _ in self._loaded)
        self._is_in_suffix = False
        self._num_calls = {}

    def record(self, run: Callable[[], object]) -> Recording:
        """Call ``run``, which calls the model, up to the first trained module; return what the frozen modules gave.

        That is nothing on a path that was not proven. No gradients are recorded. Nothing is loaded afterwards.
        """
        self.load(None)
        recording = self._recording = Recording({}, {})
        try:
            with torch.no_grad(), self._freezing.stopping_at_suffix(), suppress(PrefixReached):
                run()
        finally:
            self._recording = None
        is_proven = self.paths is None or recording.path in self.paths[self._freezing.model.training]
        return recording if is_proven else Recording({}, {})

    def compile(self) -> None:
        """Have each module compiled when it first computes."""
        for forward in self._forwards.values():
            forward.compile()

    def remove(self) -> None:
        """Give the modules their own ``forward`` back."""
        self._freezing.call_at_suffix(None)
        for forward in self._forwards.values():
            forward.remove()

    def output_of(self, name: str, compute: Callable[[], Any]) -> Any:
        """Return the output of the present call of the module ``name``."""
        if self._is_inside:
            # What a frozen module calls inside itself, as a part that several have in common, is its own affair.
            return compute()
        call = (name, self._num_calls.get(name, 0))
        self._num_calls[name] = call[1] + 1
        is_changed = self.needs is not None and call in self.needs.changed
        if call in self._loaded:
            self._num_left -= 1
            output = self._loaded[call]
            return map_tensors(Tensor.clone, output) if is_changed else output
        if self._loaded and not self._is_in_suffix:
            raise CannotShareError(_ANOTHER_PATH)
        self._is_inside = True
        try:
            output = compute()
        finally:
            self._is_inside = False
        if self._recording is not None:
            if self.needs is not None and not self.needs.reads(call):
                self._recording.outputs[call] = map_tensors(self._stand_ins.like, output)
            else:
                kept = map_tensors(Tensor.clone, output) if is_changed else output
                self._recording.outputs[call] = kept
                self._recording.versions[call] = _versions(kept)
        return output

    def _enter_suffix(self) -> None:
        if self._num_left:
            raise CannotShareError(_ANOTHER_PATH)
        self._is_in_suffix = True


class _Forward:
    """Stands in for ``forward`` of one module."""

    def __init__(self, replay: Replay, name: str, module: nn.Module) -> None:
        self.replay = replay
        self.name = name
        self.module = module
        self.was_own = "forward" in module.__dict__
        self.computed: Callable[..., Any] = module.forward
        module.__dict__["forward"] = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.replay.output_of(self.name, lambda: self.computed(*args, **kwargs))

    def compile(self) -> None:
        # One that stands there already makes weights whole, which a compiler must not see.
        if not self.was_own:
            self.computed = CompiledForward(self.computed, self.name)

    def remove(self) -> None:
        del self.module.__dict__["forward"]
        if self.was_own:
            self.module.__dict__["forward"] = self.computed


def _versions(output: Any) -> tuple[int, ...]:
    return tuple(tensor._version for tensor in tensors(output))
