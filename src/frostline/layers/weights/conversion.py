"""Weights without memory that are converted: by ``Module.to`` and its relatives, as a model is built or thereafter."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from frostline.errors import ModelError

_METHOD = "_apply"  # through which ``to``, ``cuda``, ``double`` and ``half`` go


@contextmanager
def fakes_are_replaced() -> Iterator[None]:
    """While this lasts, a module that is converted gets new parameters in the place of fake ones, tied ones once.

    torch exchanges what is inside of the old and the new one, which it refuses of some fake tensors and, worse, does of
    others: then the process dies of it later (torch 2.13). Parameters that hold their values are converted as ever.
    """
    original = nn.Module._apply
    # With what they stand for: an identity is that of one tensor only while this lives.
    replaced: dict[int, tuple[nn.Parameter, nn.Parameter]] = {}

    @functools.wraps(original)
    def apply(module: nn.Module, function: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        if recurse:
            for child in module.children():
                child._apply(function)  # type: ignore[no-untyped-call]
        fakes = _fakes_of(module)
        with _without(module, fakes):
            original(module, function, recurse=False)  # type: ignore[no-untyped-call]
        for own, fake in fakes.items():
            if id(fake) not in replaced:
                replaced[id(fake)] = fake, _converted(fake, function)
            module._parameters[own] = replaced[id(fake)][1]
        return module

    nn.Module._apply = apply  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module._apply = original  # type: ignore[method-assign]


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
