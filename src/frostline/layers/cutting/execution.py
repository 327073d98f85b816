"""What really happens in a forward pass: which modules run in which order, and which parameters are used where."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from frostline.errors import ModelError
from frostline.layers.cutting.dead_ends import graph_alone, parameters_behind
from frostline.layers.cutting.nesting import tensors
from frostline.layers.cutting.plain_attributes import plain_attributes, put_back
from frostline.layers.cutting.tensor_attributes import graphs_dropped


@dataclass(frozen=True, slots=True)
class Arguments:
    """The arguments that a model was called with."""

    positional: tuple[Any, ...]
    keyword: Mapping[str, Any]


Inputs = Tensor | tuple[Any, ...] | Mapping[str, Any] | Arguments
"""The arguments of a forward pass: a tensor is the only one, a tuple holds positional ones, a mapping keyword arguments."""


@dataclass(slots=True)
class Trace:
    """What was seen in a forward pass.

    ``runs`` are the modules that ran, in order. A use is a parameter's identity, the number of runs that had begun before
    it, and the watched module that was running, None in the code of a container. ``inputs`` are the numbers of the first
    tensors that modules were first called with: equal ones are the same tensor. ``reached`` are the identities of the
    parameters that the outputs rest on, None if that is not known.
    """

    runs: list[str] = field(default_factory=list)
    uses: list[tuple[int, int, str | None]] = field(default_factory=list)
    inputs: dict[str, int] = field(default_factory=dict)
    reached: frozenset[int] | None = None


def call(model: nn.Module, inputs: Inputs) -> Any:
    """Call the model with ``inputs``."""
    match inputs:
        case Arguments():
            return model(*inputs.positional, **inputs.keyword)
        case Mapping():
            return model(**inputs)
        case Tensor():
            return model(inputs)
        case _:
            return model(*inputs)


def trace(model: nn.Module, inputs: Inputs, *, watched: Sequence[str]) -> Trace:
    """Run the model once, in evaluation mode and without a backward pass, and say what the ``watched`` modules did.

    Of those that hold them their inputs are seen too. Modes, buffers and random states are put back. A model that cannot run
    where gradients are asked for runs a second time without.
    Raises: ModelError if the inputs are none, or the model fails on them.
    """
    if not isinstance(inputs, Tensor | tuple | Mapping | Arguments):
        raise ModelError(
            f"example_inputs is a {type(inputs).__name__}: give a tensor, a tuple of positional arguments, or a mapping of "
            f"keyword arguments."
        )
    with suppress(Exception):
        return _traced(model, inputs, watched, has_graph=True)
    try:
        return _traced(model, inputs, watched, has_graph=False)
    except Exception as error:
        raise ModelError(f"the model cannot run on example_inputs: {type(error).__name__}: {error}") from error


def _traced(model: nn.Module, inputs: Inputs, watched: Sequence[str], *, has_graph: bool) -> Trace:
    recorder = _Recorder(parameters={id(parameter) for parameter in model.parameters()})
    handles = [
        model.get_submodule(name).register_forward_pre_hook(_Called(recorder, name), with_kwargs=True)
        for name in dict.fromkeys(each for name in watched for each in _with_holders(name))
    ]
    for name in watched:
        module = model.get_submodule(name)
        handles.append(module.register_forward_pre_hook(_Begin(recorder, name)))
        handles.append(module.register_forward_hook(_End(recorder, name), always_call=True))
    try:
        with undisturbed(model), graphs_dropped(model), graph_alone(model) if has_graph else torch.no_grad():
            set_mode(model, training=False)
            with recorder:
                outputs = call(model, inputs)
            if has_graph:
                recorder.trace.reached = parameters_behind(outputs)
    finally:
        for handle in handles:
            handle.remove()
    return recorder.trace


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Put back the model's modes, buffers and plain attributes, and torch's random states, at the end."""
    attributes = plain_attributes(model)
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    with preserved_random_state(model):
        try:
            yield
        finally:
            with torch.no_grad():
                for buffer, value in buffers:
                    # Which leaves its version: whoever compares that sees what training wrote.
                    buffer.data.copy_(value)
            for module, mode in modes:
                module.training = mode
            put_back(model, attributes)


def set_mode(model: nn.Module, *, training: bool) -> None:
    """Set every module's mode without its ``train``, which a frozen module and some users' modules replace."""
    for module in model.modules():
        module.training = training


@contextmanager
def preserved_random_state(model: nn.Module) -> Iterator[None]:
    """Put back the random state of the CPU and of every accelerator that holds a part of the model."""
    devices = {tensor.device for tensor in (*model.parameters(), *model.buffers())}
    kinds = {device.type for device in devices} - {"cpu", "meta"}
    if kinds == {"mps"}:
        # fork_rng cannot address the only generator of this kind, which takes no index (torch 2.13).
        state = torch.mps.get_rng_state()
        with torch.random.fork_rng(devices=[]):
            yield
        torch.mps.set_rng_state(state)
        return
    kind = kinds.pop() if kinds else "cuda"
    indices = sorted({device.index or 0 for device in devices if device.type == kind})
    with torch.random.fork_rng(devices=indices, device_type=kind):
        yield


class _Recorder(TorchFunctionMode):
    """Notes every torch function that makes a tensor from a parameter."""

    # Copying a parameter's shape or type is no use of its value.
    _FACTORIES = frozenset(
        f"{kind}{ending}"
        for kind in ("zeros", "ones", "empty", "full", "rand", "randn")
        for ending in ("", "_like")
    ) | {"new_zeros", "new_ones", "new_empty", "new_full", "new_tensor", "randint_like"}

    def __init__(self, *, parameters: set[int]) -> None:
        super().__init__()
        self.parameters = parameters
        self.trace = Trace()
        self.running: list[str] = []
        self._numbers = WeakTensorKeyDictionary()
        self._unused = count()

    def number_of(self, tensor: Tensor) -> int:
        """Return the number of a tensor, which no other had or will have."""
        if tensor not in self._numbers:
            self._numbers[tensor] = next(self._unused)
        number: int = self._numbers[tensor]
        return number

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor | tuple | list) and getattr(func, "__name__", "") not in self._FACTORIES:
            running = self.running[-1] if self.running else None
            for value in tensors((args, kwargs)):
                if id(value) in self.parameters:
                    self.trace.uses.append((id(value), len(self.trace.runs), running))
        return result


@dataclass(slots=True)
class _Called:
    recorder: _Recorder
    name: str

    def __call__(self, _module: nn.Module, args: Any, kwargs: Any) -> None:
        for tensor in tensors((args, kwargs))[:1]:
            self.recorder.trace.inputs.setdefault(self.name, self.recorder.number_of(tensor))


def _with_holders(name: str) -> Iterator[str]:
    """Yield the names of a module and of those that hold it, but for the model's."""
    while name:
        yield name
        name = name.rpartition(".")[0]


@dataclass(slots=True)
class _Begin:
    recorder: _Recorder
    name: str

    def __call__(self, _module: nn.Module, _args: Any) -> None:
        self.recorder.trace.runs.append(self.name)
        self.recorder.running.append(self.name)


@dataclass(slots=True)
class _End:
    recorder: _Recorder
    name: str

    def __call__(self, _module: nn.Module, _args: Any, _output: Any) -> None:
        self.recorder.running.pop()
