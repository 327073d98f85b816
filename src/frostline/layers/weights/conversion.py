"""Weights without memory that are converted: by ``Module.to`` and its relatives, as a model is built or thereafter."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from frostline.errors import ModelError

_METHOD = "_apply"  # through which ``to``, ``cuda``, ``double`` and ``half`` go


class Replacements:
    """What was put in the place of fake parameters while one model was built."""

    def __init__(self) -> None:
        # With what they stand for: an identity is that of one tensor only while this lives.
        self._replaced: dict[int, tuple[nn.Parameter, nn.Parameter]] = {}

    def of(self, fake: nn.Parameter, function: Callable[[Tensor], Tensor]) -> nn.Parameter:
        """Return what a fake parameter is converted to; one that is held in several places, once.

        Raises: ModelError if the second place asks for something else: which of both holds would depend on the order.
        """
        if id(fake) not in self._replaced:
            self._replaced[id(fake)] = fake, _converted(fake, function)
        elif self._present(fake) is not _converted(self._present(fake), function):
            raise ModelError("a weight that is tied is converted to two types while the model is built.")
        return self._present(fake)

    def everywhere(self, model: nn.Module) -> nn.Module:
        """Return ``model``, in which those places too hold the new parameters that were not converted themselves."""
        for module in model.modules():
            for own, fake in _fakes_of(module).items():
                setattr(module, own, self._present(fake))
        return model

    def _present(self, fake: nn.Parameter) -> nn.Parameter:
        while id(fake) in self._replaced and self._replaced[id(fake)][1] is not fake:
            fake = self._replaced[id(fake)][1]
        return fake


class _Open(threading.local):
    """The replacements of the model that is built in this thread."""

    replacements: Replacements | None = None


_open = _Open()
_original = nn.Module._apply
_lock = threading.Lock()
_num_open = 0


@contextmanager
def fakes_are_replaced() -> Iterator[Replacements]:
    """While this lasts, a module that is converted in this thread gets new parameters in the place of fake ones.

    torch exchanges what is inside of the old and the new one, which it refuses of some fake tensors and, worse, does of
    others: then the process dies of it later (torch 2.13). Parameters that hold their values are converted as ever.
    """
    global _num_open
    outer, _open.replacements = _open.replacements, Replacements()
    with _lock:
        _num_open += 1
        nn.Module._apply = _apply  # type: ignore[method-assign]
    try:
        yield _open.replacements
    finally:
        _open.replacements = outer
        with _lock:
            _num_open -= 1
            if _num_open == 0:
                nn.Module._apply = _original  # type: ignore[method-assign]


@functools.wraps(_original)
def _apply(module: nn.Module, function: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    replacements = _open.replacements
    if replacements is None:
        return _original(module, function, recurse)  # type: ignore[no-any-return, no-untyped-call]
    if recurse:
        for child in module.children():
            child._apply(function)  # type: ignore[no-untyped-call]
    fakes = _fakes_of(module)
    with _without(module, fakes):
        _original(module, function, recurse=False)  # type: ignore[no-untyped-call]
    for own, fake in fakes.items():
        module._parameters[own] = replacements.of(fake, function)
    return module


def _converted(fake: nn.Parameter, function: Callable[[Tensor], Tensor]) -> nn.Parameter:
    with torch.no_grad():
        value = function(fake)
    if value is fake:
        return fake
    converted = nn.Parameter(value, requires_grad=fake.requires_grad)
    own = {name: each for name, each in vars(fake).items() if name not in vars(converted)}
    converted.__dict__.update(own)
    return converted


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Stands in for ``_apply`` of one module whose weights are made later."""

    module: nn.Module

    def __call__(self, function: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        """Apply ``function`` to all that the module holds, if it leaves the weights that are to be made as they are.

        Raises: ModelError if it does not.
        """
        fakes = _fakes_of(self.module)
        for own, fake in fakes.items():
            example = torch.empty(0, dtype=fake.dtype)
            changed = function(example)
            if (changed.dtype, changed.device) != (example.dtype, example.device):
                to = changed.dtype if changed.dtype != example.dtype else changed.device
                raise ModelError(
                    f"{own} of a {type(self.module).__name__} cannot be converted to {to}: this model was built deferred, "
                    f"and its weights are made later; convert it in the function that builds it, or after freeze or fill."
                )
        with _without(self.module, fakes):
            applied: nn.Module = getattr(type(self.module), _METHOD)(self.module, function, recurse)
        return applied


def refuse_conversion(model: nn.Module) -> None:
    """Let ``model``, whose large weights are fake, refuse to be converted in one line, until ``allow_conversion``."""
    for module in model.modules():
        if _fakes_of(module):
            module.__dict__[_METHOD] = _Refusal(module)


def allow_conversion(model: nn.Module) -> None:
    """Undo ``refuse_conversion``."""
    for module in model.modules():
        if isinstance(module.__dict__.get(_METHOD), _Refusal):
            del module.__dict__[_METHOD]


def _fakes_of(module: nn.Module) -> dict[str, Any]:
    return {own: each for own, each in module._parameters.items() if isinstance(each, FakeTensor)}


@contextmanager
def _without(module: nn.Module, fakes: dict[str, Any]) -> Iterator[None]:
    """Let a module hold nothing in the places of its fake parameters meanwhile."""
    try:
        module._parameters.update(dict.fromkeys(fakes))
        yield
    finally:
        module._parameters.update(fakes)
