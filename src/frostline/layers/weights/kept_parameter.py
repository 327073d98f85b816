"""A parameter that is kept small, and computes as what it was."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn

from frostline.layers.weights.weight_file import WeightFile


class KeptParameter(nn.Parameter):
    """A parameter whose data are rounded or in a file, and which names the type and device its module computes in.

    The code of models looks there for the type of masks and inputs. ``data`` says what is kept. Copies of a model share what
    is in a file; ``torch.save`` takes the values.
    """

    file: WeightFile | None
    own_dtype: torch.dtype
    own_device: torch.device
    version: int
    """How often it had been written into when it was put over the file."""

    @property
    def dtype(self) -> torch.dtype:  # type: ignore[override]
        """The type in which the module computes."""
        return self.own_dtype

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """The device on which the module computes."""
        return self.own_device

    def __deepcopy__(self, memo: dict[int, Any]) -> nn.Parameter:
        data = self.data.clone() if self.file is None else self.data
        copied = kept_parameter(
            nn.Parameter(data, requires_grad=False), self.file, self.own_dtype, self.own_device
        )
        memo[id(self)] = copied
        return copied

    def __reduce_ex__(self, protocol: Any) -> Any:
        state = (self.data, self.own_dtype, self.own_device)
        return _unpickled, state


def kept_parameter(
    parameter: nn.Parameter, file: WeightFile | None, dtype: torch.dtype, device: torch.device
) -> KeptParameter:
    """Return ``parameter`` itself, made one that computes as ``dtype`` on ``device`` whatever its data are."""
    # The class, and not another object: ties, snapshots and the user's own references lead to this very parameter.
    parameter.__class__ = KeptParameter
    kept = cast("KeptParameter", parameter)
    kept.file, kept.own_dtype, kept.own_device, kept.version = file, dtype, device, parameter._version
    return kept


def _unpickled(data: Tensor, dtype: torch.dtype, device: torch.device) -> KeptParameter:
    return kept_parameter(nn.Parameter(data, requires_grad=False), None, dtype, device)


def let_go(parameters: Iterable[nn.Parameter]) -> None:
    """Let streamed weights leave the process's memory."""
    by_file: dict[WeightFile, list[Tensor]] = {}
    for parameter in parameters:
        # What was written into a parameter over a named file is nowhere but in memory.
        if not isinstance(parameter, KeptParameter) or parameter.file is None:
            continue
        if parameter.file.path is None or parameter._version == parameter.version:
            by_file.setdefault(parameter.file, []).append(parameter)
    for file, tensors in by_file.items():
        file.let_go(tensors)
