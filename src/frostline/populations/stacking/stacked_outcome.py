"""What a batch makes of one session, stacked and alone, to be compared; and the state to put back in between."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

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
    """The buffers, modes and plain attributes of a model, to be put back.

    Models share what does not change: ``kept`` are values by the places in memory where they lie, to which those of this
    one are added.
    """

    def __init__(self, model: nn.Module, kept: dict[int, Tensor]) -> None:
        self._model = model
        self._attributes = plain_attributes(model)
        self._modules = [(module, module.training, dict(module._buffers)) for module in model.modules()]
        buffers = [each for _, _, held in self._modules for each in held.values() if each is not None]
        self._places = {each.data_ptr(): each for each in buffers}
        self._kept = kept
        for place, buffer in self._places.items():
            if place not in kept:
                kept[place] = buffer.detach().clone()

    def put_back(self) -> None:
        """Put them back."""
        for module, mode, buffers in self._modules:
            module.training = mode
            module._buffers.update(buffers)
        put_back(self._model, self._attributes)
        with torch.no_grad():
            for place, buffer in self._places.items():
                # A table may lie expanded in memory, and cannot be written then.
                if not torch.equal(buffer, self._kept[place]):
                    buffer.copy_(self._kept[place])
