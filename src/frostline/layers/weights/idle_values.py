"""Whether parameters that require no gradient have been changed all the same, by the model itself."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from frostline.layers.weights.kept_parameter import KeptParameter

# Of every parameter that is looked at. Whoever changes weights by hand, as the mean of others, changes all of them.
_FIRST_VALUES = 16


def is_idle(parameter: nn.Parameter) -> bool:
    """Return whether a parameter is neither trained, nor kept in a way that only frozen layers can compute with."""
    return not parameter.requires_grad and not isinstance(parameter, KeptParameter)


class IdleValues:
    """The first values of a model's idle parameters, as they are now."""

    def __init__(self, model: nn.Module) -> None:
        self._parameters = {
            name: parameter
            for name, parameter in model.named_parameters()
            if is_idle(parameter) and parameter.device.type != "meta" and parameter.numel() > 0
        }
        self._values = self._now()

    def changed(self) -> list[str]:
        """Return the names of those that are others than at the beginning. The host waits for the device."""
        now = self._now()
        if all(map(_are_equal, now.values(), self._values.values())):
            return []
        found: list[str] = []
        for device, names in self._by_device().items():
            sizes = [min(self._parameters[name].numel(), _FIRST_VALUES) for name in names]
            parts = zip(
                names, torch.split(now[device], sizes), torch.split(self._values[device], sizes), strict=True
            )
            found += [name for name, value, before in parts if not _are_equal(value, before)]
        return found

    def _by_device(self) -> dict[torch.device, list[str]]:
        names: dict[torch.device, list[str]] = {}
        for name, parameter in self._parameters.items():
            names.setdefault(parameter.device, []).append(name)
        return names

    def _now(self) -> dict[torch.device, Tensor]:
        return {
            device: torch.cat([self._parameters[name].detach().flatten()[:_FIRST_VALUES] for name in names])
            for device, names in self._by_device().items()
        }


def _are_equal(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)
