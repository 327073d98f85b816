"""Models built without the memory of their weights, which are initialised later, one at a time, to the same values.

While a model is built its large tensors are fake (torch's FakeTensor: a shape without memory), and what is done to them is
recorded. A weight's value is made by running again what led to it, with the states that the random generators had: the very
values that building the model at once would have given, whatever the model's code does to initialise it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack  # it has no public name

from frostline.errors import ModelError
from frostline.layers.cutting.nesting import leaves
from frostline.layers.weights.recorder import LooksMeta, NoticesConversions, Recorder, WeightsConverted

logger = logging.getLogger(__name__)

DEFERRED_ATTRIBUTE = "_frostline_deferred"
"""Where a model that is not filled yet keeps what its weights are made from."""

Place = Callable[[str, Tensor], Tensor]
"""Takes a weight's name and its value on the CPU; returns the tensor that the model is to hold."""

_LARGE = 4 * 2**20


def build_deferred(build: Callable[[], nn.Module], *, larger_than: int = _LARGE) -> nn.Module:
    """Return what ``build()`` returns, with the memory of its large parameters and buffers not taken yet.

    ``freeze`` fills the model: weights that are going to be frozen are initialised one at a time and put where they shall
    be kept, so that a model is never held whole. ``fill`` does the same for all. The values are those that ``build()``
    alone gives from the same state of torch's generators, which are left in the state that it leaves. Tensors up to
    ``larger_than`` bytes are made at once. Everything is drawn twice: building takes longer.

    A model whose code does with its large tensors what cannot be recorded (handing them to numpy, converting them) is built
    at once, with a warning that says so. Raises: whatever ``build`` raises.
    """
    if is_without_memory():
        return build()
    state = torch.get_rng_state()
    recorder = Recorder(larger_than)
    try:
        with recorder, NoticesConversions():
            model = build()
        recorder.check()
        _check_findable(model)
    except (Exception, WeightsConverted) as error:
        torch.set_rng_state(state)
        model = build()  # which raises, if the error is its own
        logger.warning("the model is built with all of its weights in memory: %s", " ".join(str(error).split()))
        return model
    if any(isinstance(tensor, FakeTensor) for tensor in (*model.parameters(), *model.buffers())):
        setattr(model, DEFERRED_ATTRIBUTE, Deferred(recorder, device=torch.device("cpu")))
    return model


def build_shapes(build: Callable[[], nn.Module], *, larger_than: int = _LARGE) -> nn.Module:
    """Return what ``build()`` returns, its large tensors without memory for good: to look at its modules and layers.

    Nothing is drawn for them, so this takes no time. A model whose code asks for their values is built by
    ``build_deferred``.
    """
    if is_without_memory():
        return build()
    state = torch.get_rng_state()
    try:
        with Recorder(larger_than, makes_values=False), LooksMeta():
            return build()
    except (Exception, WeightsConverted):
        torch.set_rng_state(state)
        return build_deferred(build, larger_than=larger_than)


def deferred_of(model: nn.Module) -> Deferred | None:
    """Return what fills ``model``, or None if it holds its weights."""
    deferred: Deferred | None = getattr(model, DEFERRED_ATTRIBUTE, None)
    return deferred


def fill(model: nn.Module, place: Place | None = None, *, without: Container[str] = ()) -> None:
    """Give a model that was built deferred its weights, one at a time, in their order; ``place`` says where each is kept.

    Without ``place`` they go to the device that the model was moved to (``move``). The parameters named in ``without`` are
    not made: they get the right shape and type there, over one single element. Another model stays as it is.
    """
    deferred = deferred_of(model)
    if deferred is None:
        return
    deferred.fill(model, place, without=without)
    delattr(model, DEFERRED_ATTRIBUTE)


def move(model: nn.Module, device: torch.device) -> nn.Module:
    """Move ``model`` to ``device``; one that was built deferred goes there when it is filled."""
    deferred = deferred_of(model)
    if deferred is None:
        return model.to(device)
    deferred.device = device
    return model


class Deferred:
    """What the weights of one model are made from, and the device they are meant for."""

    def __init__(self, recorder: Recorder, *, device: torch.device) -> None:
        self.device = device
        self._recorder = recorder
        self._given: dict[tuple[object, ...], Callable[[], Tensor]] = {}

    def give(self, tensor: Tensor, make: Callable[[], Tensor]) -> None:
        """Let one of the model's tensors without memory get the value that ``make`` returns whenever it is asked for."""
        self._given[_memory_of(tensor)] = make

    def value(self, tensor: Tensor) -> Tensor:
        """Return the value of one of the model's tensors, on the CPU; a large one is made at every call."""
        if not isinstance(tensor, FakeTensor):
            return tensor.detach()
        if _memory_of(tensor) in self._given:
            return self._given[_memory_of(tensor)]()
        value = self._recorder.value(tensor)
        is_part = value.untyped_storage().nbytes() > value.nbytes
        return value.clone() if is_part else value

    def fill(self, model: nn.Module, place: Place | None, *, without: Container[str]) -> None:
        """Put real tensors in the place of all fake ones."""
        put = place or (lambda _name, value: value.to(self.device))
        filled: dict[int, nn.Parameter] = {}
        for name, module in model.named_modules():
            for own, parameter in list(module._parameters.items()):
                if parameter is None:
                    continue
                if id(parameter) not in filled:
                    full_name = f"{name}.{own}".lstrip(".")
                    if full_name in without:
                        element = torch.empty(1, dtype=parameter.dtype, device=self.device)
                        filled[id(parameter)] = self._filled(parameter, element.expand(parameter.shape))
                    else:
                        filled[id(parameter)] = self._filled(parameter, put(full_name, self.value(parameter)))
                # Not into the dictionary: recurrent layers hold their weights in a list of their own as well.
                setattr(module, own, filled[id(parameter)])
            for own, buffer in list(module._buffers.items()):
                if buffer is not None:
                    module._buffers[own] = self.value(buffer).to(self.device)

    def _filled(self, parameter: nn.Parameter, value: Tensor) -> nn.Parameter:
        """Return the parameter with a value, and with whatever attributes the model's code gave it."""
        if not isinstance(parameter, FakeTensor):
            parameter.data = value
            return parameter
        filled = nn.Parameter(value, requires_grad=parameter.requires_grad)
        own = {key: each for key, each in vars(parameter).items() if key not in self._recorder.attributes_of_fakes}
        filled.__dict__.update(own)
        return filled


def _memory_of(tensor: Tensor) -> tuple[object, ...]:
    """What a tensor and others that are the same one, detached from gradients, have in common."""
    return tensor.untyped_storage()._cdata, tensor.storage_offset(), tuple(tensor.shape), tensor.stride()


def is_without_memory() -> bool:
    """Return whether a model that is built now gets no memory for its weights, or for large ones."""
    return any(isinstance(mode, FakeTensorMode | Recorder) for mode in _get_current_dispatch_mode_stack())


def _check_findable(model: nn.Module) -> None:
    """Raise ModelError if a module keeps a fake tensor that is neither parameter nor buffer, which nobody would fill."""
    held = {id(tensor) for tensor in (*model.parameters(), *model.buffers())}
    for name, module in model.named_modules():
        for own, value in vars(module).items():
            for each in leaves(value):
                if isinstance(each, FakeTensor) and id(each) not in held:
                    raise ModelError(f"{f'{name}.{own}'.lstrip('.')} is neither parameter nor buffer.")
