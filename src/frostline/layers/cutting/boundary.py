"""The hooks that keep a frozen prefix frozen, whatever the code around it does.

Nothing but the calls of modules is touched: every object here is a small callable in a module's hooks, copied with the
model by ``copy.deepcopy``, saved with it by ``torch.save`` and traced through by ``torch.compile``.

A frozen module passes no gradient as long as no trained module has run in the same forward pass. One that runs (again)
later, because it is used twice, passes gradients on to the trained modules before it: that costs memory, and is never a
silently missing gradient. Where the order of the layers was guessed, one that runs for the first time behind a trained
module shows that the guess was wrong, and is refused.

A forward pass begins with a call of the model itself; in a loop that calls parts of the model, where what has run in the
prefix runs again, on nothing that was computed from trained weights, while neither the model nor a trained module runs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import FrameType
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from frostline.errors import ModelError
from frostline.layers.cutting.nesting import map_tensors, tensors

FREEZING_ATTRIBUTE = "_frostline_freezing"
"""Where a frozen model keeps its Freezing, so that copies of the model have their own."""


class _Suspendable(Protocol):
    def suspended(self) -> AbstractContextManager[None]: ...


def suspended(model: nn.Module) -> AbstractContextManager[None]:
    """While this lasts the model computes as if nothing were frozen, but for its flags and modes."""
    freezing: _Suspendable | None = getattr(model, FREEZING_ATTRIBUTE, None)
    return nullcontext() if freezing is None else freezing.suspended()


class PrefixReached(BaseException):
    """Ends a forward pass at the first trained module: a signal to ourselves, which no model may take for an error."""


class PrefixState:
    """What the hooks of one freezing share."""

    def __init__(self, model: nn.Module, *, is_order_guessed: bool = False) -> None:
        self.model = model
        self.trained: tuple[nn.Module, ...] = ()
        """The outermost modules of the trained layers."""
        self.active = True
        self.is_order_guessed = is_order_guessed
        """The layers stand in the order of registration, and nobody has seen the model run."""
        self.in_suffix = False
        """A trained module has begun to run since the pass began."""
        self.at_suffix: Callable[[], object] | None = None
        """Called whenever a trained module is about to run."""
        self.uncalibrated: tuple[nn.Module, ...] = ()
        """The frozen normalisations whose statistics are still being measured."""

    def note_part(self, inputs: Any) -> None:
        """Begin a pass if it begins with what runs now on ``inputs``, and has run in the prefix before."""
        if not self.in_suffix or _is_computed_with_gradient(inputs):
            return
        # A checkpoint that computes a part again in the backward pass does so as it was computed before.
        is_in_backward = torch._C._current_graph_task_id() != -1
        self.in_suffix = is_in_backward or _is_any_running((self.model, *self.trained))


def attach(
    model: nn.Module, state: PrefixState, *, frozen: Mapping[str, nn.Module], trained: Iterable[nn.Module]
) -> list[RemovableHandle]:
    """Register all hooks; ``frozen`` (by name) and ``trained`` are the outermost modules of the layers."""
    state.trained = tuple(trained)
    # Nothing is registered behind the model's own forward: torch.compile gives such a hook a frame of its own, and warns
    # of the gradients of the outputs it finds there (torch 2.13).
    handles = [model.register_forward_pre_hook(_BeginForward(state), prepend=True)]
    for name, module in frozen.items():
        handles.append(module.register_forward_pre_hook(_CutInputs(state, name), with_kwargs=True, prepend=True))
        handles.append(module.register_forward_hook(_CutOutputs(state)))
    handles += [module.register_forward_pre_hook(_EnterSuffix(state), prepend=True) for module in state.trained]
    for module in _between(model, frozen.values(), state.trained):
        silence = _Silence(state)
        handles.append(module.register_forward_pre_hook(silence))
        handles.append(module.register_forward_hook(_Unsilence(silence), always_call=True))
    return handles


def _between(model: nn.Module, *layers: Iterable[nn.Module]) -> Iterator[nn.Module]:
    """The modules without parameters that stand between the layers and whose mode matters: dropout above all."""
    inside = {id(module) for group in layers for outermost in group for module in outermost.modules()}
    for module in model.modules():
        is_free = id(module) not in inside and next(module.parameters(), None) is None
        is_harmless = type(module).__module__.startswith("torch.nn.modules") and not isinstance(
            module, nn.modules.dropout._DropoutNd
        )
        if is_free and not is_harmless:
            yield module


class _BeginForward:
    def __init__(self, state: PrefixState) -> None:
        self.state = state

    def __call__(self, _module: nn.Module, _args: Any) -> None:
        self.state.in_suffix = False


class _EnterSuffix:
    def __init__(self, state: PrefixState) -> None:
        self.state = state

    def __call__(self, _module: nn.Module, _args: Any) -> None:
        if self.state.at_suffix is not None:
            self.state.at_suffix()
        self.state.in_suffix = True


class _CutInputs:
    """Detaches what enters a frozen module: an input that requires a gradient, a trained weight used on the way."""

    def __init__(self, state: PrefixState, name: str) -> None:
        self.state = state
        self.name = name
        self.has_run = False

    def __call__(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        if not self.state.active:
            return None
        # Whatever is compiled is the model itself, and asked for more its attention is not folded (torch 2.13).
        if not torch.compiler.is_compiling() and self.has_run:
            self.state.note_part((args, kwargs))
        if self.state.in_suffix:
            if self.state.is_order_guessed and not self.has_run:
                raise ModelError(
                    f"the frozen layer {self.name or type(module).__name__} runs after a trained one: the layers were "
                    f"taken in the order of registration, in which this model does not run. Freeze it with "
                    f"example_inputs=..., and they stand in the order of execution."
                )
            return None
        self.has_run = True
        if not any(map(_requires_gradient, args)) and not (kwargs and _requires_gradient(kwargs)):
            return None
        return _detached((args, kwargs))


class _CutOutputs:
    """Detaches what leaves a frozen module: its weight may be tied to a trained one."""

    def __init__(self, state: PrefixState) -> None:
        self.state = state

    def __call__(self, _module: nn.Module, _args: Any, output: Any) -> Any:
        if not self.state.active or self.state.in_suffix or not _requires_gradient(output):
            return None
        return _detached(output)


class _Silence:
    """Puts a module that holds no parameters into evaluation mode for a call within the prefix."""

    def __init__(self, state: PrefixState) -> None:
        self.state = state
        self.mode = False
        self.has_run = False

    def __call__(self, module: nn.Module, args: Any) -> None:
        self.mode = module.training
        if not self.state.active:
            return
        # Without gradients nothing tells a dropout that is used again behind trained modules from one that begins a pass.
        if not torch.compiler.is_compiling() and self.has_run and torch.is_grad_enabled():
            self.state.note_part(args)
        if not self.state.in_suffix:
            self.has_run = True
            module.training = False


class _Unsilence:
    def __init__(self, silence: _Silence) -> None:
        self.silence = silence

    def __call__(self, module: nn.Module, _args: Any, _output: Any) -> None:
        module.training = self.silence.mode


class StayInEvaluation:
    """Stands in for ``train`` of a frozen module: the mode never leaves evaluation, but is remembered.

    The modules ``following`` keep following the user's mode: normalisations with batch statistics.
    """

    def __init__(self, module: nn.Module, *, following: tuple[nn.Module, ...]) -> None:
        self.module = module
        self.following = following
        self.modes = [(each, each.training) for each in module.modules()]
        self.requested: bool | None = None

    def begin(self) -> None:
        """Take the place of ``train``."""
        requested = self.module.training
        self.module.__dict__["train"] = self
        self(requested)
        self.requested = None

    def end(self) -> None:
        """Give ``train`` back, and the module the mode asked for last, or else the modes it had."""
        del self.module.__dict__["train"]
        if self.requested is None:
            for module, mode in self.modes:
                module.training = mode
        else:
            self.module.train(self.requested)

    def __call__(self, mode: bool = True) -> nn.Module:
        """Stay in evaluation mode, as ``nn.Module.train`` is called."""
        type(self.module).train(self.module, mode=False)
        for module in self.following:
            module.training = mode
        self.requested = mode
        return self.module


@contextmanager
def stopping_at_suffix(state: PrefixState) -> Iterator[None]:
    """End forward passes at the first trained module: run the model inside ``suppress(PrefixReached)``."""
    before, state.at_suffix = state.at_suffix, _stop
    try:
        yield
    finally:
        state.at_suffix = before


def _stop() -> None:
    raise PrefixReached


def _requires_gradient(value: Any) -> bool:
    # Most values are one tensor: in a step of a millisecond the general walk at every hook is felt.
    if isinstance(value, Tensor):
        return value.requires_grad
    return any(tensor.requires_grad for tensor in tensors(value))


def _is_computed_with_gradient(value: Any) -> bool:
    return any(tensor.requires_grad and not tensor.is_leaf for tensor in tensors(value))


def _is_any_running(modules: tuple[nn.Module, ...]) -> bool:
    """Whether one of the modules is being called."""
    # The stack says it, and needs no hook behind the model, whatever exception ended its last call.
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code is nn.Module._call_impl.__code__:
            running = frame.f_locals["self"]
            if any(running is each for each in modules):
                return True
        frame = frame.f_back
    return False


def _detached(value: Any) -> Any:
    return map_tensors(Tensor.detach, value)
