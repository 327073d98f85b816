"""What a batch makes of one session, stacked and alone, to be compared; and the state to put back in between."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from frostline.layers.cutting.plain_attributes import plain_attributes, put_back

if TYPE_CHECKING:
    from frostline.training.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a batch makes of one session."""

    loss: Tensor
    gradients: dict[str, Tensor | None]
    buffers: dict[str, Tensor]

    def complaint(self, expected: Outcome, *, tolerance: float) -> str | None:
        """Return how this differs from ``expected`` by more than rounding, or None."""
        if not abs(float(self.loss) - float(expected.loss)) <= tolerance * (1 + abs(float(expected.loss))):
            return f"the loss is {float(self.loss)!r} stacked and {float(expected.loss)!r} alone"
        whole = math.hypot(*(float(each.norm()) for each in expected.gradients.values() if each is not None))
        for name, gradient in expected.gradients.items():
            own = self.gradients[name]
            if gradient is None or own is None:
                if gradient is not own:
                    return f"{name} gets a gradient {'alone' if own is None else 'stacked'} only"
            elif gradient.layout != torch.strided:
                return f"the gradient of {name} is sparse"
            # A gradient that is zero but for rounding (a bias before a norm) is measured by the others.
            elif not float((own - gradient).norm()) <= tolerance * (float(gradient.norm()) + whole / 10):
                return f"the gradient of {name} is another stacked than alone"
        for name, buffer in expected.buffers.items():
            if not torch.allclose(self.buffers[name].double(), buffer.double(), rtol=tolerance, atol=tolerance):
                return f"the buffer {name} becomes another stacked than alone"
        return None


def tolerance_of(session: Session) -> float:
    """Return the relative difference that rounding may make.

    The cube root: of the many units of a model some lie so close to a kink that rounding moves them across.
    """
    dtype = session.device_plan.compute_dtype or session.parameters[0].dtype
    return min(math.cbrt(torch.finfo(dtype).eps), 0.05)


@contextmanager
def moved_apart(stacks: Iterable[Tensor]) -> Iterator[None]:
    """Move all weights by about a hundredth, and put them back."""
    stacks = [each.detach() for each in stacks]
    kept = [each.clone() for each in stacks]
    try:
        for stack in stacks:
            generator = torch.Generator(stack.device).manual_seed(0)
            noise = torch.randn(stack.shape, generator=generator, dtype=stack.dtype, device=stack.device)
            stack += noise * (0.01 * stack.square().mean().sqrt() + 0.001)
        yield
    finally:
        for stack, values in zip(stacks, kept, strict=True):
            stack.copy_(values)


class State:
    """The buffers, modes and plain attributes of the sessions' models, to be put back."""

    def __init__(self, sessions: Sequence[Session]) -> None:
        self._attributes = [(session.model, plain_attributes(session.model)) for session in sessions]
        self._modules = {id(module): module for session in sessions for module in session.model.modules()}
        self._modes = {key: module.training for key, module in self._modules.items()}
        self._buffers = {key: dict(module._buffers) for key, module in self._modules.items()}
        # Sessions share what does not change: each place counts once.
        places = {
            each.data_ptr(): each for held in self._buffers.values() for each in held.values() if each is not None
        }
        self._values = [(each, each.detach().clone()) for each in places.values()]

    def put_back(self) -> None:
        """Put them back."""
        for key, module in self._modules.items():
            module.training = self._modes[key]
            module._buffers.update(self._buffers[key])
        for model, attributes in self._attributes:
            put_back(model, attributes)
        with torch.no_grad():
            for buffer, value in self._values:
                # A table may lie expanded in memory, and cannot be written then.
                if not torch.equal(buffer, value):
                    buffer.copy_(value)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self.put_back()
