"""The weights beside a model's adapters: the same after every training, and written once for all of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

# Of each weight, spread over it: whoever has another base differs nearly everywhere.
_NUM_SAMPLED = 1024


@dataclass(frozen=True)
class AdapterBase:
    """What PEFT's models hold and do not train, by name. Buffers are none of it: they may move."""

    parameters: Mapping[str, Tensor]

    @classmethod
    def of(cls, model: nn.Module) -> AdapterBase | None:
        """Return that of ``model``; None without any. What is trained is what was before the model was frozen."""
        from frostline.layers.adapters import names_in_bases
        from frostline.layers.freezing.freezing import own_gradient_flags

        names = names_in_bases(model)
        if not names:
            return None
        flags, parameters = own_gradient_flags(model), model.named_parameters(remove_duplicate=False)
        found = {name: each for name, each in parameters if name in names and not flags[name]}
        return cls(found) if found else None

    @cached_property
    def identity(self) -> str:
        """A hash of the parameters' names, types and sizes, and of values spread over each that is not quantised.

        Libraries lay quantised values out anew as they first run.
        """
        import torch
        from torch.utils._python_dispatch import is_traceable_wrapper_subclass

        digest = hashlib.sha256()
        for name, parameter in sorted(self.parameters.items()):
            digest.update(f"{name} {parameter.dtype} {parameter.numel()} ".encode())
            # Some libraries quantise to integers, others to a tensor of their own class that passes for the original.
            passes: bool = is_traceable_wrapper_subclass(parameter)
            if passes or not parameter.is_floating_point():
                continue
            flat = parameter.detach().reshape(-1)
            sampled = flat[:: max(1, len(flat) // _NUM_SAMPLED)].contiguous().cpu()
            digest.update(sampled.view(torch.uint8).numpy().data)
        return digest.hexdigest()[:16]

    def holds(self, name: str) -> bool:
        """Return whether an entry of the state dict is one of the parameters, or kept beside one that is quantised."""
        parts = name.split(".")
        return any(".".join(parts[:end]) in self.parameters for end in range(1, len(parts) + 1))
