"""The weights with which a training was scored best, for those that are judged by these in the place of their last ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from frostline.layers import freezing_of


@dataclass(frozen=True, slots=True, kw_only=True)
class BestWeights:
    """What a training had changed of its model when it was scored best so far, on the CPU."""

    score: float
    state: Mapping[str, Tensor]
    """The parameters that are trained, and the buffers outside of the frozen layers, by their names."""

    @classmethod
    def of(cls, model: nn.Module, *, score: float) -> BestWeights:
        """Copy those of a ``model`` that has ``score`` as it stands."""
        tensors = [*_trained_parameters(model), *((name, buffer) for name, buffer, _ in _trained_buffers(model))]
        return cls(score=score, state={name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors})

    def load(self, model: nn.Module) -> None:
        """Give them to the ``model``, in memory of their own: members of a population hold some of theirs in common."""
        for name, parameter in _trained_parameters(model):
            parameter.data = self.state[name].to(parameter.device, copy=True)
        for name, buffer, module in _trained_buffers(model):
            # One that was made since then stays as it is.
            if name in self.state:
                module._buffers[name.rpartition(".")[2]] = self.state[name].to(buffer.device, copy=True)

    def contents(self) -> dict[str, Any]:
        """Return it as tensors and plain values."""
        return {"score": self.score, "state": dict(self.state)}


def _trained_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return (each for each in model.named_parameters() if each[1].requires_grad)


def _trained_buffers(model: nn.Module) -> Iterator[tuple[str, Tensor, nn.Module]]:
    """Yield the buffers outside of the frozen layers, by their names in the model, and the modules that have them."""
    freezing = freezing_of(model)
    frozen = set() if freezing is None else {id(module) for module in freezing.frozen_modules.values()}
    for path, module in model.named_modules():
        if id(module) not in frozen:
            for name, buffer in [*module.named_buffers(recurse=False)]:
                yield f"{path}.{name}", buffer, module
