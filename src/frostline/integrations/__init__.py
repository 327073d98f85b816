"""frostline on other people's engines: ``RayExecutor``, for the machines of a Ray cluster."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from frostline.integrations.ray import RayExecutor

__all__ = ["RayExecutor"]


def __getattr__(name: str) -> Any:
    # Loaded when it is used: a worker sets its process up before it loads torch.
    if name in __all__:
        return getattr(import_module("frostline.integrations.ray"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
