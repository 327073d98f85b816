"""Which parameters an optimizer holds that a framework made for a whole model."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.optim import Optimizer


def keep_trained(optimizer: Optimizer) -> None:
    """Leave an optimizer the parameters that are trained."""
    for group in optimizer.param_groups:
        group["params"] = [parameter for parameter in group["params"] if parameter.requires_grad]
