"""The hooks that keep a frozen prefix frozen, whatever the code around it does.

Nothing but the calls of modules is touched: every object here is a small callable in a module's hooks, copied with the
model by ``copy.deepcopy``, saved with it by ``torch.save`` and traced through by ``torch.compile``.

A frozen module passes no gradient as long as no trained module has run in the same forward pass. One that runs (again)
later, because it is used twice or registered out of order, passes gradients on to the trained modules before it: a
wrong order costs memory, never a silently missing gradient. A forward pass begins with a call of the model itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

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

    def __init__(self) -> None:
        self.active = True
        self.in_suffix = False
        """A trained module has begun to run since the model was called last."""
        self.stops_at_suffix = False
        self.uncalibrated: tuple[nn.Module, ...] = ()
        """The frozen normalisations whose statistics are those of a new module, which mean nothing."""


def attach(
    model: nn.Module, state: PrefixState, *, frozen: Iterable[nn.Module], trained: Iterable[nn.Module]
) -> list[RemovableHandle]:
    """Register all hooks; ``frozen`` and ``trained`` are the outermost modules of the layers."""
    # Nothing is registered behind the model's own forward: torch.compile gives such a hook a frame of its own, and warns
    # of the gradients of the outputs it finds there (torch 2.13).
    handles = [model.register_forward_pre_hook(_BeginForward(state), prepend=True)]
    for module in frozen:
        handles.append(module.register_forward_pre_hook(_CutInputs(state), with_kwargs=True, prepend=True))
        handles.append(module.register_forward_hook(_CutOutputs(state)))
    handles += [module.register_forward_pre_hook(_EnterSuffix(state), prepend=True) for module in trained]
    for module in _between(model, frozen, trained):
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
        if self.state.stops_at_suffix:
            raise PrefixReached
        self.state.in_suffix = True


class _CutInputs:
    """Detaches what enters a frozen module: an input that requires a gradient, a trained weight used on the way."""

    def __init__(self, state: PrefixState) -> None:
        self.state = state

    def __call__(self, _module: nn.Module, args: Any, kwargs: Any) -> Any:
        # A flag, not a look at the statistics: torch.compile can trace it.
        if self.state.uncalibrated and self.state.active:
            raise ModelError(
                f"{len(self.state.uncalibrated)} frozen normalisation layers have never seen a batch, so their statistics "
                f"mean nothing: call freezing.calibrate(batches), or freeze with frozen_statistics='batch'."
            )
        if not self.state.active or self.state.in_suffix:
            return None
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

    def __call__(self, module: nn.Module, _args: Any) -> None:
        self.mode = module.training
        if self.state.active and not self.state.in_suffix:
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


def require_calibration(state: PrefixState, modules: Iterable[nn.Module]) -> list[RemovableHandle]:
    """Let the forward pass raise until the ``modules`` that are new are calibrated, or statistics are loaded into them."""
    new = [module for module in modules if _is_new(module)]
    state.uncalibrated = tuple(new)
    return [module.register_load_state_dict_post_hook(_Loaded(state)) for module in new]  # type: ignore[no-untyped-call]


class _Loaded:
    def __init__(self, state: PrefixState) -> None:
        self.state = state

    def __call__(self, module: nn.Module, _incompatible: Any) -> None:
        if not _is_new(module):
            self.state.uncalibrated = tuple(each for each in self.state.uncalibrated if each is not module)


def _is_new(normalisation: nn.Module) -> bool:
    """Whether a normalisation has never seen a batch; unknown, and so taken as calibrated, where there are no values."""
    count = normalisation.get_buffer("num_batches_tracked")
    is_without_values = count.is_meta or type(count) is not Tensor
    return not is_without_values and int(count) == 0


@contextmanager
def stopping_at_suffix(state: PrefixState) -> Iterator[None]:
    """End forward passes at the first trained module: run the model inside ``suppress(PrefixReached)``."""
    state.stops_at_suffix = True
    try:
        yield
    finally:
        state.stops_at_suffix = False


def _requires_gradient(value: Any) -> bool:
    # Most values are one tensor: in a step of a millisecond the general walk at every hook is felt.
    if isinstance(value, Tensor):
        return value.requires_grad
    return any(tensor.requires_grad for tensor in tensors(value))


def _detached(value: Any) -> Any:
    return map_tensors(Tensor.detach, value)
