"""frostline with other people's engines and trackers: ``RayExecutor``, ``MLflowTracker``, ``TensorBoardTracker`` and others.

``frostline.integrations.lightning`` and ``frostline.integrations.transformers`` are imported where they are used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from frostline.integrations.ray.ray_executor import RayExecutor
    from frostline.integrations.trackers import MLflowTracker, TensorBoardTracker, TrackioTracker, WandbTracker

__all__ = ["MLflowTracker", "RayExecutor", "TensorBoardTracker", "TrackioTracker", "WandbTracker"]


def __getattr__(name: str) -> Any:
    # Loaded when it is used: a worker sets its process up before it loads torch.
    if name in __all__:
        module = "ray.ray_executor" if name == "RayExecutor" else "trackers"
        return getattr(import_module(f"frostline.integrations.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
