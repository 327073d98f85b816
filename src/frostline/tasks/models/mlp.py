"""A deep multilayer perceptron: residual hidden layers of one width, then a linear head."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from frostline.tasks.checks import require_positive


@dataclass(frozen=True, slots=True, kw_only=True)
class MLPSettings:
    """The architecture of a deep MLP; its layers are the hidden ones and the head.

    Raises: OptionError if the numbers do not make a model.
    """

    num_inputs: int = 64
    num_hidden_layers: int = 8
    width: int = 128
    num_classes: int = 10

    def __post_init__(self) -> None:
        for name in ("num_inputs", "num_hidden_layers", "width", "num_classes"):
            require_positive(name, getattr(self, name))


class HiddenLayer(nn.Module):
    """A linear map, its norm and its non-linearity, beside a skip connection where the width stays.

    Without norm and skip connection a stack of eight dies for good at a third of the learning rates that are searched:
    all those configurations would tie. The norm is per example, so that a frozen layer has no statistics to keep.
    """

    def __init__(self, num_inputs: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(num_inputs, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """Return the hidden features, of shape (batch, width)."""
        hidden = functional.relu(self.norm(self.linear(x)))
        return x + hidden if x.shape == hidden.shape else hidden


def build_mlp(settings: MLPSettings) -> nn.Sequential:
    """Return an MLP over flattened inputs, of ``num_hidden_layers + 1`` layers."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    for index in range(settings.num_hidden_layers):
        num_inputs = settings.width if index else settings.num_inputs
        layers[f"hidden_{index + 1}"] = HiddenLayer(num_inputs, settings.width)
    layers["head"] = nn.Linear(settings.width, settings.num_classes)
    return nn.Sequential(layers)
