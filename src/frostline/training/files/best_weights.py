"""The weights with which a training was scored best, for those that are judged by these in the place of their last ones."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from frostline.layers import freezing_of
from frostline.layers.cutting.plain_attributes import PlainAttributes, put_back


@dataclass(frozen=True, slots=True, kw_only=True)
class BestWeights:
    """What a training had changed of its model when it was scored best so far, on the CPU."""

    score: float
    state: Mapping[str, Tensor]
    """The parameters that are trained, or that the model changed itself, and the buffers that follow the training."""
    attributes: PlainAttributes = field(default_factory=dict)
    """What else the model had changed of itself."""

    @classmethod
    def of(
        cls,
        model: nn.Module,
        *,
        score: float,
        changed: Collection[str] = (),
        attributes: PlainAttributes | None = None,
    ) -> BestWeights:
        """Copy those of a ``model`` that has ``score`` as it stands.

        ``changed`` are the parameters that nobody trains and the model changed itself, ``attributes`` what it changed of its
        plain attributes.
        """
        parameters = (each for each in model.named_parameters() if each[1].requires_grad or each[0] in changed)
        tensors = [*parameters, *((name, buffer) for name, buffer, _ in _following_buffers(model))]
        state = {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors}
        return cls(score=score, state=state, attributes=attributes or {})

    def load(self, model: nn.Module) -> None:
        """Give them to the ``model``, in memory of their own: members of a population hold some of theirs in common."""
        for name, parameter in model.named_parameters():
            if name in self.state:
                parameter.data = self.state[name].to(parameter.device, copy=True)
        for name, buffer, module in _following_buffers(model):
            # One that was made since then stays as it is.
            if name in self.state:
                module._buffers[name.rpartition(".")[2]] = self.state[name].to(buffer.device, copy=True)
        put_back(model, self.attributes)

    def contents(self) -> dict[str, Any]:
        """Return it as tensors and plain values."""
        attributes = {"attributes": self.attributes} if self.attributes else {}
        return {"score": self.score, "state": dict(self.state), **attributes}


def _following_buffers(model: nn.Module) -> Iterator[tuple[str, Tensor, nn.Module]]:
    """Yield the buffers that training changes, by their names in the model, and the modules that have them.

    Those of frozen layers are among them where their statistics follow the batches.
    """
    freezing = freezing_of(model)
    is_fixed = freezing is not None and freezing.frozen_statistics == "calibrated"
    frozen = {id(module) for module in freezing.frozen_modules.values()} if freezing and is_fixed else set()
    for path, module in model.named_modules():
        if id(module) not in frozen:
            for name, buffer in [*module.named_buffers(recurse=False)]:
                yield f"{path}.{name}", buffer, module
